"""Fixtures for tests of the vCenter simulator: a site, and pyVmomi connected to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyVim.connect import Disconnect
from pyVmomi import vim

from fakesite import Site
from vcenter.vimclient import Client


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that keeps what its snapshots froze."""
    with Site(tmp_path, keep=True) as made:
        yield made


@pytest.fixture
def connect(site: Site) -> Iterator[Callable[..., Client]]:
    """Connects to the site, as often as called."""
    clients: list[Client] = []

    def connect(**who: str) -> Client:
        clients.append(Client(site, **who))
        return clients[-1]

    yield connect
    for client in clients:
        with contextlib.suppress(OSError, vim.fault.NotAuthenticated):
            Disconnect(client.si)


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    """One connection to the site."""
    return connect()
