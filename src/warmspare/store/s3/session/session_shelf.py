"""Sessions of a bucket that were given back, for whoever asks the same one next; owns when one is too old for that.

To make a client takes longer than most of what is asked of it. One is used by one store at a time, so what is counted
and learnt of it is that store's. Credentials are looked for anew where anything that says which they are has changed,
and every few minutes anyhow.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Hashable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # an engine has a shelf before anybody needs the client, which takes long to be read
    from warmspare.store.s3.session.aws_session import Session

MOST = 16  # in all; others are closed
IDLE_S = 60.0  # that one waits
AGE_S = 600.0  # since it was made
_FILES = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}


@dataclass(frozen=True, slots=True)
class Shelved:
    """A session, what it was made for, and when it was made and last given back, by this host's monotonic clock. The
    credentials are those that stood there before it looked for its own: ones that come while it is used are not its."""

    key: Hashable = field(repr=False)  # it holds secrets
    session: Session
    made_s: float
    kept_s: float

    @property
    def stale(self) -> bool:
        now_s = time.monotonic()
        return now_s - self.kept_s > IDLE_S or now_s - self.made_s > AGE_S


class SessionShelf:
    """Of one event loop, the one that runs as it is made. Close it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._kept: list[Shelved] = []
        self._open = True

    @property
    def here(self) -> bool:
        """Whether this is its loop."""
        return asyncio.get_running_loop() is self._loop

    def take(self, key: Hashable, make: Callable[[], Session]) -> Shelved:
        """One that was made for the same, or a new one; the caller's alone until it is given back or closed."""
        whole = (key, _credentials())
        for index in reversed(range(len(self._kept))):
            if self._kept[index].key == whole and not self._kept[index].stale:
                kept = self._kept.pop(index)
                kept.session.wire.begin_anew()
                return kept
        now_s = time.monotonic()
        return Shelved(whole, make(), now_s, now_s)

    async def give_back(self, taken: Shelved) -> None:
        """It works, and its user is done with it."""
        if not self._open:
            await taken.session.close()
            return
        self._kept.append(replace(taken, kept_s=time.monotonic()))
        while self._kept and (len(self._kept) > MOST or self._kept[0].stale):
            await self._kept.pop(0).session.close()

    async def close(self) -> None:
        """All that nobody uses; what is given back from now on, too."""
        self._open = False
        while self._kept:
            await self._kept.pop().session.close()


def _credentials() -> tuple[Any, ...]:
    """What says which credentials there are: of the environment, and of the files that hold them."""
    said = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    files = []
    for name, usual in _FILES.items():
        try:
            there = Path(os.environ.get(name) or usual).expanduser().stat()
            files.append((there.st_ino, there.st_size, there.st_mtime_ns))
        except (OSError, RuntimeError):
            files.append((0, 0, 0))
    return said, *files


_shelf: ContextVar[SessionShelf | None] = ContextVar("session shelf", default=None)


@contextlib.contextmanager
def shelving(shelf: SessionShelf | None) -> Iterator[None]:
    """Stores that are opened in this block, and by the tasks that it starts, share it. None: each has its own."""
    token = _shelf.set(shelf)
    try:
        yield
    finally:
        _shelf.reset(token)


def current_shelf() -> SessionShelf | None:
    """The one to be used here."""
    shelf = _shelf.get()
    return shelf if shelf is not None and shelf.here else None
