"""What the tests of warmspare's vSphere side have in common: sessions with little patience, and what they emitted."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from fakesite import Site
from warmspare.observe.events import Events
from warmspare.vsphere.session import Patience, Server, VsphereSession

PATIENCE = Patience(deadline_s=20.0, backoff_s=0.02, backoff_most_s=0.2, connect_s=5.0, call_s=20.0)


@dataclass
class Record:
    """Every event, to be looked at."""

    list: list[dict[str, Any]] = field(default_factory=list)

    @property
    def events(self) -> Events:
        return Events(self.list.append)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.list if event["event"] == kind]

    def messages(self, kind: str = "source.warning") -> str:
        return "\n".join(event["message"] for event in self.of(kind))


def server(site: Site, **changed: Any) -> Server:
    """The site, pinned by its thumbprint."""
    made = Server(site.host, site.user, lambda: site.password, site.port, site.thumbprint)
    return replace(made, **changed)


@contextlib.asynccontextmanager
async def session_at(
    site: Site, record: Record | None = None, patience: Patience = PATIENCE, **changed: Any
) -> AsyncIterator[VsphereSession]:
    """A session at the site."""
    async with VsphereSession(server(site, **changed), (record or Record()).events, patience) as session:
        yield session
