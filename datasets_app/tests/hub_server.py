"""A Hub of datasets on loopback: the part of https://huggingface.co/docs/hub/api that ``huggingface_hub`` uses, serving real
files, with a second host that stands for the one that keeps large files, and faults to order.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass(kw_only=True)
class Repository:
    """A dataset: files by revision. The commit of a revision follows from its files."""

    files: dict[str, bytes]
    revisions: dict[str, dict[str, bytes]] = field(default_factory=dict)
    card: dict[str, object] = field(default_factory=dict)
    gated: bool = False

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return commit and files of a branch, a tag or a commit."""
        for name, files in {"main": self.files, **self.revisions}.items():
            commit = hashlib.sha1(repr((name, sorted(files.items()))).encode(), usedforsecurity=False).hexdigest()
            if revision in (name, commit):
                return commit, files
        return None


@dataclass
class Hub:
    """What the server has, what was asked of it, and how it misbehaves."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    """Paths of files that lie on the other host, and are named by their sha256."""
    tampered: set[str] = field(default_factory=set)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    """By path, after how many bytes each of the first answers is cut off."""
    held: dict[str, threading.Event] = field(default_factory=dict)
    """By path, an event that a half sent answer waits for."""
    is_down: bool = False
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """(host, method and path, headers) in order."""
    address: str = ""
    storage_address: str = ""

    def seen(self, start: str) -> list[dict[str, str]]:
        """Return the headers of the requests whose method and path begin so."""
        return [headers for _, line, headers in self.requests if line.startswith(start)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    host: str

    def do_GET(self) -> None:
        self._note()
        path = unquote(urlsplit(self.path).path)
        if self.hub.is_down:
            self._json(503, {})
        elif self.host == "storage":
            self._content(path.removeprefix("/content/"))
        elif path.startswith("/api/datasets/"):
            self._api(path.removeprefix("/api/datasets/"))
        else:
            self._resolve(path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _note(self) -> None:
        self.hub.requests.append(
            (self.host, f"{self.command} {unquote(self.path)}", {k.lower(): v for k, v in self.headers.items()})
        )

    def _api(self, path: str) -> None:
        name = "/".join(path.split("/")[:2])
        rest = path.removeprefix(name).strip("/")
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._json(404, {}, code="RepoNotFound")
            return
        kind, _, revision = rest.partition("/")
        if kind == "auth-check":
            is_allowed = not repository.gated or self.headers.get("Authorization") == "Bearer hf_secret"
            self._json(200 if is_allowed else 403, {}, code="" if is_allowed else "GatedRepo")
            return
        found = repository.at(revision or "main")
        if found is None:
            self._json(404, {}, code="RevisionNotFound")
        elif kind == "tree":
            self._json(200, [self._entry(path, content) for path, content in found[1].items()])
        else:
            siblings = [{"rfilename": path} for path in found[1]]
            about = {"id": name, "sha": found[0], "gated": "manual" if repository.gated else False, "siblings": siblings}
            self._json(200, {**about, "cardData": repository.card})

    def _entry(self, path: str, content: bytes) -> dict[str, object]:
        sha256 = hashlib.sha256(content).hexdigest()
        lfs = {"lfs": {"oid": sha256, "size": len(content), "pointerSize": 130}} if path in self.hub.large else {}
        return {"type": "file", "path": path, "size": len(content), "oid": _blob(content), **lfs}

    def _resolve(self, path: str) -> None:
        owner, name, _, revision, file = path.removeprefix("/datasets/").split("/", 4)
        repository = self.hub.repositories[f"{owner}/{name}"]
        if repository.gated and self.headers.get("Authorization") != "Bearer hf_secret":
            self._json(401, {}, code="GatedRepo")
            return
        commit, files = repository.at(revision) or ("", {})
        if file not in files:
            self._json(404, {}, code="EntryNotFound")
            return
        if file not in self.hub.large:
            self._content(f"{owner}/{name}/{commit}/{file}")
            return
        content = files[file]
        self.send_response(302)
        self.send_header("Location", f"{self.hub.storage_address}/content/{owner}/{name}/{commit}/{file}")
        self.send_header("X-Repo-Commit", commit)
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("X-Linked-ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self, path: str) -> None:
        owner, name, commit, file = path.split("/", 3)
        content = (self.hub.repositories[f"{owner}/{name}"].at(commit) or ("", {}))[1][file]
        etag = hashlib.sha256(content).hexdigest() if file in self.hub.large else _blob(content)
        if file in self.hub.tampered:
            content = content[:-2] + b"?" + content[-1:]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self._send(file, content[start:])

    def _send(self, file: str, content: bytes) -> None:
        cuts = self.hub.cuts.get(file, [])
        if cuts:
            self.wfile.write(content[: cuts.pop(0)])
            self.close_connection = True
        elif file in self.hub.held:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.hub.held[file].wait()
            self.close_connection = True
        else:
            self.wfile.write(content)

    def _json(self, status: int, body: object, *, code: str = "") -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(payload)

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output clean."""


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Give a running Hub without repositories."""
    hub = Hub()
    servers = []
    for host in ("hub", "storage"):
        handler = type(f"{host.title()}Handler", (_Handler,), {"hub": hub, "host": host})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
    hub.address, hub.storage_address = (f"http://127.0.0.1:{server.server_port}" for server, _ in servers)
    try:
        yield hub
    finally:
        for event in hub.held.values():
            event.set()
        for server, thread in servers:
            server.shutdown()
            thread.join()
            server.server_close()
