"""Pieces of the settings that need a few lines of code."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from platform_site.env import Environment


def database_from_url(url: str, *, worker_slots: int) -> dict[str, object]:
    """Turn ``postgresql://user:password@host:port/name?option=value`` into a Django database with a pool.

    Over ASGI each request has a thread of its own, whose persistent connection would end with it. A worker's slot uses up to
    four connections: for its node, its lease, its lines and its checkpoints.
    """
    parts = urlsplit(url)
    # A reconnect_timeout of minutes backs off so far that the pool comes back long after its database.
    pool = {"min_size": 0, "max_size": 16 + 4 * worker_slots, "timeout": 5.0, "reconnect_timeout": 2.0}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
        "CONN_MAX_AGE": 0,  # given back to the pool after each request
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 10, "pool": pool, **dict(parse_qsl(parts.query))},
    }


def kept_secret(var_dir: Path) -> str:
    """Return this installation's own secret key, made at the first call and readable by its owner only."""
    path = var_dir / "secret_key"
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        var_dir.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"secret_key.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48), encoding="ascii")
        try:
            os.link(draft, path)  # fails, and keeps the other's, if another process was first
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_text(encoding="ascii")


def made_folder(path: Path) -> Path:
    """Return ``path``, which is a folder afterwards: Django's checks refuse to start without the one for uploads."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def storages(environment: Environment) -> dict[str, dict[str, object]]:
    """Return Django's STORAGES: S3 where an endpoint is set, else a folder; buckets are folders below it."""
    static = {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}
    if not environment.minio_endpoint:
        location = environment.var_dir / "storage" / environment.minio_bucket
        return {
            "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(location)}},
            "staticfiles": static,
        }
    options = {
        "bucket_name": environment.minio_bucket,
        "endpoint_url": environment.minio_endpoint,
        "access_key": environment.minio_access_key,
        "secret_key": environment.minio_secret_key,
        "signature_version": "s3v4",
        "addressing_style": "path",
        "file_overwrite": True,
        "default_acl": None,
        "max_memory_size": 16 * 1024 * 1024,  # larger objects are read by way of a temporary file
    }
    return {"default": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}, "staticfiles": static}
