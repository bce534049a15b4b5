"""Makes a repository where there is none; owns that it is made once, and refuses a place that held one, or a store that
does not keep what a repository needs.

Nothing else makes one: what is written to a place that nobody meant is found by nobody.
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from warmspare.errors import StoreError
from warmspare.format import flags, repofile
from warmspare.format.repofile import RepositoryRecord
from warmspare.observe.events import Events
from warmspare.repository.chain import NoRepositoryError, Repository, now_text, own_record
from warmspare.repository.trust import prove, remember
from warmspare.repository.vm_index import VmIndex
from warmspare.store import layout
from warmspare.store.contract import Store


@dataclass(frozen=True, slots=True)
class Made:
    """The repository that is there now. anew: whether this call made it."""

    record: RepositoryRecord
    anew: bool


async def make_repository(
    store: Store, events: Events, *, single_sender: bool = False, host: Path | None = None
) -> Made:
    """A repository in a store, made if nothing is there. One that is there stays as it is; of several calls at once one
    makes it, and each returns that one. IntegrityError, FormatError where something is there that is none: VMs without
    the record, or a record that can't be read; StoreError where the store keeps too little. single_sender: no other
    host will send there. host: this host's state directory, where it is noted what was found of the store."""
    try:
        return Made(await own_record(store), anew=False)
    except NoRepositoryError:
        examined = await prove(store, events, single_sender=single_sender)
    record = RepositoryRecord(flags.VERSION, 0, secrets.token_hex(16), now_text())
    await store.create(layout.repository_key(), repofile.encode(record))
    there = await own_record(store)  # what stands, and not what was sent: another may have been first
    if host is not None:
        remember(host, there.id, store, examined)
    if there.id == record.id:
        await _begin_index(Repository(store, there.id))
    return Made(there, anew=there.id == record.id)


async def _begin_index(repository: Repository) -> None:
    """Nothing is there yet, so nothing is missing in the index. Where this can't be noted, names are looked for among
    all VMs until `audit repository --repair` has made the index."""
    with contextlib.suppress(StoreError):
        await VmIndex(repository).leave_whole_mark()
