from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.references import UnresolvedReference
from pipelines.references.hub import resolve_hub

COMMIT = "b" * 40


def card(*files: str, gated: object = False) -> dict[str, object]:
    return {"id": "owner/name", "sha": COMMIT, "gated": gated, "siblings": [{"rfilename": name} for name in files]}


# path -> (status, X-Error-Code, body), as https://huggingface.co/docs/hub/api describes them
ANSWERS: dict[str, tuple[int, str, object]] = {
    "/api/models/owner/good": (200, "", card("config.json", "model.safetensors")),
    "/api/models/owner/good/revision/v2": (200, "", card("config.json", "model.safetensors")),
    "/api/models/owner/good/revision/v3": (404, "RevisionNotFound", {}),
    "/api/models/owner/pickle": (200, "", card("config.json", "pytorch_model.bin")),
    "/api/models/owner/gated": (200, "", card("config.json", "model.safetensors", gated="manual")),
    "/api/models/owner/gated/auth-check": (403, "GatedRepo", {}),
    "/api/models/owner/broken": (500, "", {}),
}


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, code, body = ANSWERS.get(self.path.split("?")[0], (404, "RepoNotFound", {}))
        payload = json.dumps(body).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server on loopback that answers as the Hub does."""
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("value", ["owner/good", "owner/good@v2"])
def test_a_model_is_pinned_to_its_commit(hub: None, value: str) -> None:
    assert resolve_hub(value).source == {"type": "hub", "repository": "owner/good", "revision": COMMIT}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("owner/none", "the Hub has no model 'owner/none'"),
        ("owner/good@v3", "has no revision 'v3'"),
        ("owner/pickle", "never loaded"),
        ("owner/gated", "is gated"),
        ("owner/a--b", "is not an id of the Hub"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(hub: None, value: str, text: str) -> None:
    with pytest.raises(UnresolvedReference, match=text):
        resolve_hub(value)


@pytest.mark.parametrize("away", [True, False])
def test_a_hub_that_is_away_or_broken_is_said_to_be_so(hub: None, monkeypatch: pytest.MonkeyPatch, away: bool) -> None:
    from huggingface_hub import constants

    if away:
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnresolvedReference, match="the Hub cannot be reached"):
        resolve_hub("owner/broken")
