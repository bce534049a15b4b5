"""The stores that the conformance suite runs against."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from warmspare.store.contract import Store
from warmspare.store.opening import open_store

Opener = Callable[[], Store]


@pytest.fixture(params=["directory", "seaweed", "moto", "ceph"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh repository's URI in each kind of store."""
    if request.param == "directory":
        return str(tmp_path / "repository")
    place = request.getfixturevalue(f"{request.param}_place")
    return str(place.uri)


@pytest_asyncio.fixture
async def opener(uri: str) -> AsyncIterator[Opener]:
    """Opens further stores on the same place, as other hosts would; closed at the end."""
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(open_store(uri, concurrency=4))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
def store(opener: Opener) -> Store:
    """A store on a fresh place."""
    return opener()
