"""Bodies over the limit are refused while they arrive."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
import requests

from platform_site import uploads


@pytest.fixture
def site(transactional_db) -> Iterator:
    from pipelines.tests.live_site import live_site

    with live_site() as site:
        yield site


@pytest.fixture
def headers(site, user) -> dict[str, str]:
    return {"Authorization": f"Token {site.key_of(user)}"}


@pytest.fixture
def small_limits(settings, monkeypatch) -> None:
    settings.ENV = settings.ENV.model_copy(update={"max_upload_bytes": 100_000})
    monkeypatch.setattr(uploads, "OTHER_BODY_MAX_BYTES", 50_000)


def check_refusal(answer: requests.Response, limit: int) -> None:
    assert answer.status_code == 413
    body = answer.json()
    assert (body["code"], body["errors"]) == ("too_large", [])
    assert str(limit) in body["detail"]


def test_a_declared_length_is_refused_before_a_byte_is_read(site, headers, small_limits):
    host, port = site.host.split(":")
    request = (
        f"POST /api/v1/datasets/upload HTTP/1.1\r\nHost: {site.host}\r\nAuthorization: {headers['Authorization']}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 99999999\r\n\r\n"
    )
    started = time.monotonic()
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request.encode())
        answer = connection.recv(4096).decode()

    assert answer.startswith("HTTP/1.1 413 ")
    assert time.monotonic() - started < 2


def test_chunks_are_counted(site, headers, small_limits):
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 10_000

    check_refusal(requests.post(f"{site.api}/datasets/upload", data=endless(), headers=headers, timeout=20), 100_000)


def test_a_client_that_writes_first_still_reads_the_answer(site, headers, small_limits):
    body = b"x" * 8_000_000

    check_refusal(requests.post(f"{site.api}/datasets/upload", data=body, headers=headers, timeout=20), 100_000)


def test_other_addresses_have_a_limit_of_their_own(site, headers, small_limits):
    body = {"nodes": [], "name": "x" * 60_000}

    check_refusal(requests.post(f"{site.api}/jobs", json=body, headers=headers, timeout=20), 50_000)


def test_a_body_within_the_limit_passes(site, headers, small_limits):
    answer = requests.post(f"{site.api}/jobs", json={"nonsense": "x" * 40_000}, headers=headers, timeout=20)

    assert answer.status_code == 400


def test_a_full_disk_is_said(site, headers, monkeypatch):
    def no_room(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("django.core.handlers.asgi.tempfile.SpooledTemporaryFile", no_room)

    answer = requests.post(f"{site.api}/datasets/upload", data=b"x", headers=headers, timeout=20)

    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
