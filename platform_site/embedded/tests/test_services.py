"""The services start, are joined, keep their data, and end with their last user."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from platform_site.embedded.services import ServicesInUse, available_for
from platform_site.embedded.state import STATE_FILE, EmbeddedError, State, embedded_urls, read_state, write_state

NAMES = ["postgres", "valkey"]
USER_THAT_DIES = """
import os, signal, sys
from pathlib import Path
from platform_site.embedded.services import ServicesInUse
ServicesInUse(Path(sys.argv[1]), ["valkey"], is_durable=False)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def var_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="truetune-embedded-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def _keeper(var_dir: Path) -> psutil.Process:
    return psutil.Process(read_state(var_dir).keeper_pid)


def _wait_until_gone(process: psutil.Process, *, seconds: float = 15) -> None:
    _, alive = psutil.wait_procs([process], timeout=seconds)
    assert not alive


def test_data_survives_a_stop_and_the_addresses_stay(var_dir: Path):
    services = ServicesInUse(var_dir, NAMES)
    first = services.urls
    with psycopg.connect(first.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with redis.Redis.from_url(first.redis_url) as client:
        client.set("kept", "42")
    services.leave()

    services = ServicesInUse(var_dir, NAMES)
    assert services.urls == first == embedded_urls(var_dir)
    with psycopg.connect(first.database_url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    with redis.Redis.from_url(first.redis_url) as client:
        assert client.get("kept") == b"42"
    services.leave()


def test_nothing_runs_after_the_last_user_has_left(var_dir: Path):
    services = ServicesInUse(var_dir, NAMES, is_durable=False)
    keeper = _keeper(var_dir)
    family = [keeper, *keeper.children(recursive=True)]
    assert {"postgres", "valkey-server"} <= {process.name() for process in family}
    services.leave()
    _, alive = psutil.wait_procs(family, timeout=1)
    assert not alive


def test_second_user_joins_and_keeps_the_services_when_the_first_leaves(var_dir: Path):
    first = ServicesInUse(var_dir, ["valkey"], is_durable=False)
    keeper = _keeper(var_dir)
    second = ServicesInUse(var_dir, ["valkey"], is_durable=False)
    assert _keeper(var_dir) == keeper
    first.leave()
    with redis.Redis.from_url(second.urls.redis_url) as client:
        assert client.ping()
    second.leave()
    _wait_until_gone(keeper, seconds=1)


def test_services_end_when_their_user_is_killed(var_dir: Path):
    code = subprocess.run([sys.executable, "-c", USER_THAT_DIES, str(var_dir)], check=False).returncode
    assert code == -signal.SIGKILL
    state = read_state(var_dir)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(state.keeper_pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", state.valkey_port), timeout=1)


@pytest.mark.skipif(sys.platform != "linux", reason="a killed keeper takes its services along only with Linux's help")
def test_start_after_a_killed_keeper_finds_the_data_whole(var_dir: Path):
    services = ServicesInUse(var_dir, NAMES)
    with psycopg.connect(services.urls.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    keeper = _keeper(var_dir)
    family = [keeper, *keeper.children(recursive=True)]
    os.kill(keeper.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive
    services.leave()

    services = ServicesInUse(var_dir, NAMES)
    with psycopg.connect(services.urls.database_url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    services.leave()


def test_service_that_dies_is_started_again(var_dir: Path):
    services = ServicesInUse(var_dir, ["valkey"], is_durable=False)
    server = next(process for process in _keeper(var_dir).children() if process.name() == "valkey-server")
    server.kill()
    _wait_until_gone(server)
    deadline = time.monotonic() + 10
    with redis.Redis.from_url(services.urls.redis_url) as client:
        while True:
            try:
                assert client.ping()
                break
            except redis.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
    services.leave()


def test_remembered_port_that_is_taken_is_replaced(var_dir: Path):
    ServicesInUse(var_dir, ["valkey"], is_durable=False).leave()
    port = read_state(var_dir).valkey_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        services = ServicesInUse(var_dir, ["valkey"], is_durable=False)
        assert read_state(var_dir).valkey_port != port
        with redis.Redis.from_url(services.urls.redis_url) as client:
            assert client.ping()
        services.leave()


def test_stale_pid_of_another_program_does_not_hinder_the_start(var_dir: Path):
    ServicesInUse(var_dir, ["postgres"], is_durable=False).leave()
    folder = var_dir / read_state(var_dir).home / "postgres"
    (folder / "postmaster.pid").write_text(f"{os.getpid()}\n{folder}\n0\n1\n\n\n\nready\n")
    services = ServicesInUse(var_dir, ["postgres"], is_durable=False)
    with psycopg.connect(services.urls.database_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    services.leave()


def test_nobody_gets_in_without_the_password(var_dir: Path):
    services = ServicesInUse(var_dir, NAMES, is_durable=False)
    state = read_state(var_dir)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(services.urls.database_url.replace(state.postgres_password, "wrong"))
    with redis.Redis(port=state.valkey_port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    assert stat.S_IMODE((var_dir / STATE_FILE).stat().st_mode) == 0o600
    for process in [_keeper(var_dir), *_keeper(var_dir).children(recursive=True)]:
        line = " ".join(process.cmdline())
        assert state.postgres_password not in line
        assert state.valkey_password not in line
    services.leave()


def test_join_that_needs_more_than_runs_says_so(var_dir: Path):
    services = ServicesInUse(var_dir, ["valkey"], is_durable=False)
    with pytest.raises(EmbeddedError, match="run without postgres"):
        ServicesInUse(var_dir, NAMES, is_durable=False)
    services.leave()


def test_damaged_state_file_is_named(var_dir: Path):
    (var_dir / "embedded").mkdir()
    (var_dir / STATE_FILE).write_text("{")
    with pytest.raises(EmbeddedError, match=r"state\.json is damaged"):
        ServicesInUse(var_dir, NAMES)


def test_lost_password_is_named_before_anything_is_touched(var_dir: Path):
    ServicesInUse(var_dir, ["postgres"], is_durable=False).leave()
    (var_dir / STATE_FILE).unlink()
    with pytest.raises(EmbeddedError, match=r"password of .*postgres is lost"):
        ServicesInUse(var_dir, ["postgres"], is_durable=False)
    assert (var_dir / "embedded/postgres/PG_VERSION").exists()


def test_lost_data_folder_is_named_rather_than_replaced(var_dir: Path):
    (var_dir / "embedded").mkdir()
    write_state(var_dir, State(home=str(var_dir / "elsewhere")))
    with pytest.raises(EmbeddedError, match="elsewhere, which holds the data, is gone"):
        ServicesInUse(var_dir, ["valkey"])


def test_moved_var_dir_keeps_its_data(var_dir: Path):
    services = ServicesInUse(var_dir / "old", ["valkey"])
    with redis.Redis.from_url(services.urls.redis_url) as client:
        client.set("kept", "42")
    services.leave()
    (var_dir / "old").rename(var_dir / "new")
    services = ServicesInUse(var_dir / "new", ["valkey"])
    with redis.Redis.from_url(services.urls.redis_url) as client:
        assert client.get("kept") == b"42"
    services.leave()


@pytest.mark.parametrize("arguments", [["manage.py"], ["manage.py", "help"], ["manage.py", "migrate", "--help"]])
def test_commands_without_need_start_nothing(arguments: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.delenv("REDIS_URL")
    with available_for(arguments) as services:
        assert services is None


def test_urls_of_the_operator_start_nothing():
    with available_for(["manage.py", "migrate"]) as services:
        assert services is None


def test_missing_url_is_filled_in_for_a_command(var_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VAR_DIR", str(var_dir))
    monkeypatch.delenv("REDIS_URL")
    with available_for(["manage.py", "migrate"]) as services:
        assert services is not None
        assert os.environ["REDIS_URL"] == services.urls.redis_url
        assert read_state(var_dir).running == ["valkey"]
