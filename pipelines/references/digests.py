"""Digests of local files, remembered while the file stays as it is."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from platform_site.common.store import digest_file


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; read again only when its size, time of change or identity differ."""
    found = path.stat()
    return _digest(str(path), found.st_size, found.st_mtime_ns, found.st_ino)


@lru_cache(maxsize=4096)
def _digest(path: str, size_bytes: int, modified_ns: int, inode: int) -> str:  # noqa: ARG001 (parts of the key)
    return digest_file(Path(path))[0]
