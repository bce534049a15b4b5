"""Whether this host may believe a repository's store: what was tried of it, and when that is tried again; owns what
follows of a promise that is not kept.

docs/operations.md, "What a store must keep". It is tried when a repository is made, and at the first use of one by a
host that writes to it. The result is a note in the host's state, for one repository, one server and one version of this
program. Where only a single sender is safe, each run of it tries anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import msgspec

from warmspare.errors import StoreError
from warmspare.observe.events import Events
from warmspare.observe.kinds.repository_events import StorePromise
from warmspare.observe.kinds.run_events import HousekeepingWarning
from warmspare.outside.records import Hex32, Line
from warmspare.outside.regular_files import demand_folders
from warmspare.repository.chain import Repository
from warmspare.state.local_files import STATE_DIRECTORY, local_io, locked, read_record, write_record
from warmspare.store import layout
from warmspare.store.contract import Store
from warmspare.store.promises import Examined, Promise, Tried, examine, new_token
from warmspare.version import __version__

PLACE = "promises"  # in a state directory
WAIT_S = 0.1  # for another run of this host that is trying
# What nothing works without, in the order of what is said first.
NEEDED = (Promise.CREATE, Promise.READ, Promise.LIST, Promise.RANGES)
CLEARING_UP = (Promise.UPLOADS, Promise.DELETE)
_RIGHTS = {Promise.UPLOADS: "s3:ListBucketMultipartUploads", Promise.DELETE: "s3:DeleteObject"}
# What comes of a promise that can be done without.
FOLLOWS = {
    Promise.CREATE: "so only this host may send to it (single_sender); each run tries this again",
    Promise.REPLACE: "so a lease may be had by two at once, who then do the same work; one of them publishes it",
    Promise.CHECKSUMS: "so what is damaged on the way there shows only when it is verified",
    Promise.CLOCK: "so a lease may seem to have run out, or to be held, when it isn't",
}


class TrustRecord(msgspec.Struct, frozen=True):
    """What was found. broken: by promise, in words; what nothing works without is never among them, but `create`
    where there is a single sender."""

    repository: Hex32
    server: Line
    software: Line
    broken: Annotated[dict[Line, Line], msgspec.Meta(max_length=len(Promise))]


class StoreTrial(msgspec.Struct, frozen=True):
    """One that is under way, or died."""

    token: Hex32


async def prove(store: Store, events: Events, *, single_sender: bool = False) -> Examined:
    """Try the store now, and say what follows. StoreError where no repository may be in it."""
    examined = await examine(store)
    demand(store, examined, single_sender=single_sender)
    _tell(store, examined.broken, events)
    return examined


def remember(state: Path, identity: str, store: Store, examined: Examined) -> None:
    """Note for the runs of this host what was found when a repository was made. Where that can't be, they try anew."""
    with contextlib.suppress(StoreError):
        _write(_note(state / PLACE, identity), identity, store, examined)


def _note(directory: Path, identity: str) -> Path:
    """StoreError if the directory is a link, or no directory."""
    with local_io(STATE_DIRECTORY, directory):
        demand_folders(directory.parent, directory)
    return directory / f"{identity}.json"


def _write(path: Path, identity: str, store: Store, examined: Examined) -> None:
    broken = {str(tried.promise): tried.found for tried in examined.broken}
    write_record(path, TrustRecord(identity, store.server, __version__, broken), STATE_DIRECTORY)


def demand(store: Store, examined: Examined, *, single_sender: bool) -> None:
    """StoreError if something is not kept that nothing works without."""
    for tried in (examined.of(one) for one in NEEDED):
        if tried.kept is not False:
            continue
        if tried.error is not None:
            raise tried.error
        hint = "use a store that keeps this; docs/operations.md has what is needed"
        if tried.promise is Promise.CREATE and examined.ignores_creates:
            if single_sender:
                continue
            hint = (
                "use a server that keeps conditional writes; where one host alone sends, single_sender = true "
                "(--single-sender) says so"
            )
        raise StoreError(f"no repository is safe in this store: {tried.found}", where=place(store), hint=hint)


def place(store: Store) -> str:
    """The store as messages about its server name it."""
    return f"{store.uri} at {store.server}" if store.server.startswith("http") else store.uri


class StoreTrust:
    """Of one host. state: a state directory of it, where notes are made. host: its usual one, where `init` has made
    its own, if that is another. single_sender: no other host sends there, its administrator says."""

    def __init__(self, state: Path, events: Events, *, host: Path | None = None, single_sender: bool = False) -> None:
        self._directory, self._events, self._single_sender = state / PLACE, events, single_sender
        # Only what could be forgotten is believed.
        usable = host is not None and host != state and os.access(host / PLACE, os.R_OK | os.W_OK | os.X_OK)
        self._others = [host / PLACE] if host is not None and usable else []
        self._asked: Repository | None = None  # about which this was asked last

    async def demand(self, repository: Repository) -> None:
        """Return once the store may be written to: at once where this host has tried it. StoreError if it may not."""
        path, store = _note(self._directory, repository.id), repository.store
        self._asked = repository
        record = self._known(repository)
        if record is not None:
            if told := record.broken.get(Promise.REPLACE):
                _tell(store, [Tried(Promise.REPLACE, False, told)], self._events)
            return
        async with AsyncExitStack() as stack:
            while not stack.enter_context(locked(path.with_suffix(".lock"), STATE_DIRECTORY)):
                await stack.aclose()
                await asyncio.sleep(WAIT_S)
            if self._known(repository) is not None:
                return
            examined = await self._examine(store, path.with_suffix(".trial"))
            demand(store, examined, single_sender=self._single_sender)
            before = self._record(repository)
            known = before.broken if before is not None else {}
            news = [one for one in examined.broken if one.promise not in CLEARING_UP or one.promise not in known]
            _tell(store, news, self._events)
            _write(path, repository.id, store, examined)

    async def _examine(self, store: Store, path: Path) -> Examined:
        """Try it. What a run that died in here left there is removed: its token is noted before anything is written."""
        before = read_record(path, StoreTrial, STATE_DIRECTORY, self._events)
        trial = StoreTrial(new_token())
        write_record(path, trial, STATE_DIRECTORY)
        examined = await examine(store, token=trial.token, left=before.token if before is not None else "")
        with local_io(STATE_DIRECTORY, path):
            path.unlink(missing_ok=True)
        return examined

    def forget(self) -> None:
        """Try it anew next time: what was found there may contradict a promise."""
        if self._asked is not None:
            for directory in (*self._others, self._directory):
                with local_io(STATE_DIRECTORY, path := _note(directory, self._asked.id)):
                    path.unlink(missing_ok=True)

    def _record(self, repository: Repository) -> TrustRecord | None:
        """What was found by this version at this server."""
        of = (repository.id, repository.store.server, __version__)
        for directory in (self._directory, *self._others):
            record = read_record(_note(directory, repository.id), TrustRecord, STATE_DIRECTORY, self._events)
            if record is not None and (record.repository, record.server, record.software) == of:
                return record
        return None

    def _known(self, repository: Repository) -> TrustRecord | None:
        """The record, where it need not be tried again."""
        record = self._record(repository)
        return record if record is not None and Promise.CREATE not in record.broken else None


def _tell(store: Store, broken: list[Tried], events: Events) -> None:
    for tried in broken:
        if tried.promise not in CLEARING_UP:
            message = f"this store does not keep all that was hoped for: {tried.found}; {FOLLOWS[tried.promise]}"
            events.emit(StorePromise(repository=store.uri, promise=str(tried.promise), message=message))
    kept = [tried for tried in broken if tried.promise in CLEARING_UP]
    if kept:  # one warning, whatever of it could not be done
        where = f"{store.uri.rstrip('/')}/{layout.probes_prefix()}"
        right = ", ".join(one.error.action or _RIGHTS[one.promise] for one in kept if one.error is not None)
        events.emit(
            HousekeepingWarning(
                action=right or "unlink",
                right=right,
                object=where,
                count=1,
                message=f"{where} could not be cleared up, where this host tried the store: "
                + "; ".join(dict.fromkeys(tried.found for tried in kept)),
            )
        )
