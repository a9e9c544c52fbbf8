"""Send stored files: whole or in ranges, a folder as a zip, without holding any of it in memory.

    return send_stored(request, artifact, name="adapter")

The SHA-256 is the entity tag, so an interrupted download goes on where it stopped, and is refused if it became another file.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, ClassVar, Protocol

import botocore.exceptions
from asgiref.sync import sync_to_async
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header, parse_etags
from zipstream import ZIP_STORED, ZipStream

from platform_site.common.errors import DomainError
from platform_site.common.store import ContentMissing, ManifestEntry, open_stored

CHUNK_BYTES = 256 * 1024
_ONE_RANGE = re.compile(r"^bytes=([0-9]{0,18})-([0-9]{0,18})$")


class StoredFile(Protocol):
    """What a row must know to be sent: an Artifact does."""

    uri: str
    sha256: str
    size_bytes: int
    is_folder: bool
    manifest: list[ManifestEntry]


class ContentGone(DomainError):
    """The row is there, but its content is not in the store."""

    code: ClassVar[str] = "content_missing"
    status: ClassVar[int] = 410


class RangeNotSatisfiable(DomainError):
    """The requested range lies outside the file."""

    code: ClassVar[str] = "range_not_satisfiable"
    status: ClassVar[int] = 416

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"The range lies outside the file, which has {size_bytes} bytes.")
        self.headers = {"Content-Range": f"bytes */{size_bytes}"}


@dataclass(frozen=True)
class ByteRange:
    """Positions of the first and last byte, both included."""

    first: int
    last: int

    @property
    def size_bytes(self) -> int:
        """How many bytes it covers."""
        return self.last - self.first + 1


def send_stored(
    request: HttpRequest, stored: StoredFile, *, name: str, content_type: str = "application/octet-stream"
) -> HttpResponseBase:
    """Return the response that carries ``stored`` under the file name ``name``: bytes or, for a folder, a zip.

    Raises: RangeNotSatisfiable: 416. ContentGone: 410, before anything is sent.
    """
    if stored.is_folder:
        return _send_folder(request, stored, name=name)
    etag = f'"{stored.sha256}"'
    if etag in parse_etags(request.headers.get("If-None-Match", "")):
        return HttpResponse(status=304, headers={"ETag": etag})
    span = _requested_range(request, stored.size_bytes, etag)
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": content_type} | _file_headers(name)
    if span is not None:
        headers["Content-Range"] = f"bytes {span.first}-{span.last}/{stored.size_bytes}"
    wanted = span or ByteRange(0, stored.size_bytes - 1)
    headers["Content-Length"] = str(wanted.size_bytes)
    return _streamed(request, open_range(stored.uri, wanted), status=206 if span else 200, headers=headers)


def open_range(uri: str, wanted: ByteRange) -> Iterator[bytes]:
    """Open a stored file now and return the chunks of the range.

    Raises: ContentGone: the store has no such file.
    """
    try:
        if isinstance(default_storage, FileSystemStorage):
            file = open_stored(uri)
            file.seek(wanted.first)
            return _chunks(file, wanted.size_bytes)
        # django-storages would fetch the whole object before the first byte of a range.
        asked = {"Range": f"bytes={wanted.first}-{wanted.last}"} if wanted.size_bytes else {}
        return default_storage.bucket.Object(uri).get(**asked)["Body"].iter_chunks(CHUNK_BYTES)
    except (ContentMissing, botocore.exceptions.ClientError) as error:
        raise ContentGone("The content of this file is no longer in the store.") from error


def _chunks(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    with file:
        while size_bytes > 0 and (chunk := file.read(min(CHUNK_BYTES, size_bytes))):
            size_bytes -= len(chunk)
            yield chunk


def _requested_range(request: HttpRequest, size_bytes: int, etag: str) -> ByteRange | None:
    """Return the one range asked for; None where the whole file is to be sent, as for a list of ranges (RFC 9110, 14.2)."""
    match = _ONE_RANGE.match(request.headers.get("Range", "").replace(" ", ""))
    if match is None or match.group(0) == "bytes=-" or request.headers.get("If-Range", etag) != etag:
        return None
    start, end = match.groups()
    if start == "":
        first, last = max(0, size_bytes - int(end)), size_bytes - 1
    else:
        first, last = int(start), min(int(end or size_bytes), size_bytes - 1)
        if end and int(end) < int(start):
            return None
    if first >= size_bytes or (start == "" and int(end) == 0):
        raise RangeNotSatisfiable(size_bytes)
    return ByteRange(first, last)


def _send_folder(request: HttpRequest, stored: StoredFile, *, name: str) -> HttpResponseBase:
    archive = ZipStream(compress_type=ZIP_STORED, sized=True)
    for entry in stored.manifest:
        archive.add(_whole_file(f"{stored.uri}/{entry['path']}", entry), entry["path"], size=entry["size_bytes"])
    _check_present(stored.uri, stored.manifest)
    headers = {"Content-Type": "application/zip", "Content-Length": str(len(archive)), "ETag": f'"{stored.sha256}-zip"'}
    return _streamed(request, iter(archive), status=200, headers=headers | _file_headers(f"{name}.zip"))


def _whole_file(uri: str, entry: ManifestEntry) -> Iterator[bytes]:
    yield from open_range(uri, ByteRange(0, entry["size_bytes"] - 1))


def _check_present(uri: str, manifest: Sequence[ManifestEntry]) -> None:
    missing = [entry["path"] for entry in manifest if not default_storage.exists(f"{uri}/{entry['path']}")]
    if missing:
        raise ContentGone(f"The store no longer has {missing[0]}" + (f" and {len(missing) - 1} more." if missing[1:] else "."))


def _file_headers(name: str) -> dict[str, str]:
    return {
        "Content-Disposition": content_disposition_header(as_attachment=True, filename=name) or "attachment",
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }


def _streamed(request: HttpRequest, chunks: Iterator[bytes], *, status: int, headers: Mapping[str, str]) -> HttpResponseBase:
    if request.method == "HEAD":
        return HttpResponse(status=status, headers=headers)
    if not connection.in_atomic_block:
        connection.close()  # a download may last for hours, and needs no database
    # Django reads a plain iterator into memory before it serves it over ASGI; an asynchronous one it streams.
    content = _in_thread(chunks) if hasattr(request, "scope") else chunks
    return StreamingHttpResponse(content, status=status, headers=headers)


async def _in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    take = sync_to_async(next, thread_sensitive=False)
    try:
        while chunk := await take(chunks, b""):
            yield chunk
    finally:
        if close := getattr(chunks, "close", None):
            await sync_to_async(close, thread_sensitive=False)()
