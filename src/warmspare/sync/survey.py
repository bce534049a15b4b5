"""What a sync would do now, without doing it; owns what is said of a repository that does not exist yet."""

from __future__ import annotations

import tempfile
from pathlib import Path

from warmspare.observe.events import Events, Meter
from warmspare.repository.chain import NoRepositoryError, open_repository
from warmspare.source.base import Machine
from warmspare.store.base import Store
from warmspare.store.directory import DirectoryStore
from warmspare.sync.pipeline import Survey, Sync
from warmspare.sync.rolling import Rolling


async def survey(
    store: Store, machine: Machine, state: Path, events: Events, *, level: int | None, meter: Meter,
    rolling: Rolling | None = None,
) -> Survey:
    """See Sync.survey. Where there is no repository, a first sync is looked at, and none is made."""
    try:
        await open_repository(store, create=False)
    except NoRepositoryError:
        with tempfile.TemporaryDirectory(prefix="warmspare-plan-") as scratch:
            nowhere = DirectoryStore(f"{scratch}/repository", uri=store.uri)
            try:
                sync = Sync(nowhere, machine, Path(scratch) / "state", events, level=level, meter=meter)
                return await sync.survey()
            finally:
                await nowhere.close()
    return await Sync(store, machine, state, events, level=level, meter=meter, rolling=rolling).survey()
