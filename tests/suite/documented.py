"""Every event that is told in this process is one of the documents, with its very fields; owns the list of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rigs.host.hearing import told_wrongly
from warmspare.observe.event import Event
from warmspare.observe.events import Events

WRONG: list[str] = []  # since it was looked at last


@contextmanager
def held() -> Iterator[None]:
    """Until the block is left, all that `Events` passes on is looked at first."""
    emit = Events.emit

    def looked_at(self: Events, event: Event) -> None:
        WRONG.extend(told_wrongly(event))
        emit(self, event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Events, "emit", looked_at)
        yield


def wrong() -> list[str]:
    """What was told wrongly since the last call."""
    found, WRONG[:] = list(WRONG), []
    return found
