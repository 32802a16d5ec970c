"""The servers of the contracts: a contract heals what it breaks, so that one server does for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..conftest import require_binary
from ..servers import FakeServer, ValkeyServer
from ..topologies import Guarded

DRIP = b"$100\r\n" + b"v" * 100


@pytest.fixture(scope="package")
def outage_server(pytestconfig: pytest.Config) -> Iterator[ValkeyServer]:
    """A real server, to be killed and frozen, and started again."""
    require_binary(pytestconfig)
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="package")
def dripping_url() -> Iterator[str]:
    """The URL of a false server that answers everything with a long value, a byte each 0.05 s."""
    with FakeServer.dripping(DRIP) as server:
        yield server.url


@pytest.fixture(scope="package")
def outage_sentinel(pytestconfig: pytest.Config) -> Iterator[Guarded]:
    """A master that its sentinel never gives up."""
    require_binary(pytestconfig)
    with Guarded(down_after=600, replica=False) as guarded:
        yield guarded
