"""Looks at a repository and its store as a sync will use them; owns what `doctor` says of both.

What the credentials can't do shows by trying it, on objects of its own (store/promises.py).
"""

from __future__ import annotations

from dataclasses import replace

from warmspare.errors import WarmspareError
from warmspare.model.ids import VmId
from warmspare.repository.chain import NoRepositoryError, Repository, open_repository
from warmspare.repository.trust import FOLLOWS, NEEDED
from warmspare.repository.vm_heads import survey_index
from warmspare.source.vddk.vddk_doctor import Check
from warmspare.store.contract import Mannered, Store
from warmspare.store.promises import Examined, Promise, Tried, examine

_NAMES = {
    Promise.CREATE: "conditional creates",
    Promise.REPLACE: "conditional replacements",
    Promise.READ: "reading what was written",
    Promise.LIST: "listing what was written",
    Promise.RANGES: "ranges",
    Promise.CHECKSUMS: "checksums of parts",
    Promise.UPLOADS: "unfinished uploads",
    Promise.CLOCK: "the store's clock",
    Promise.DELETE: "deleting",
}
_STAYS = {
    Promise.UPLOADS: "what interrupted uploads leave there stays, and may cost: let a rule of the bucket abort them",
    Promise.DELETE: "what is of no use any more stays there, with a warning each time; no restore point is concerned",
}


async def examine_repository(store: Store, *, single_sender: bool) -> list[Check]:
    """What is there, then each thing that a sync needs of the store. Never raises an error of ours."""
    index: list[Check] = []
    try:
        repository = await open_repository(store)
        vms = [name for name in await repository.vms() if name]
        first = Check("repository", "ok", f"{store.uri}, with restore points of {len(vms)} VMs")
        index = await _index(repository, vms)
    except NoRepositoryError:
        meaning = "nothing is there yet, and every sync is refused until `warmspare init` has made it"
        first = Check("repository", "wrong", store.uri, meaning)
        if not store.uri.startswith("s3://"):
            return [first]  # trying would make the directory
    except WarmspareError as error:
        return [wrong("repository", error)]
    try:
        examined = await examine(store)
    except WarmspareError as error:
        return [first, *index, wrong("store", error)]
    if isinstance(store, Mannered):
        first = replace(first, meaning="; ".join(filter(None, (first.meaning, store.manner()))))
    return [first, *index, *(_check(examined, one, single_sender) for one in examined.tried if one.kept is not None)]


async def _index(repository: Repository, vms: list[VmId]) -> list[Check]:
    """Whether the index of VMs is there, can be read, and knows them all. Nothing is wrong without: it takes longer."""
    survey = await survey_index(repository)
    lacking = [vm for vm in vms if vm not in survey.entries]
    if survey.whole and not lacking:
        return [Check("index", "ok", f"knows all {len(vms)} VMs")]
    if not survey.entries:
        found = "there is none, or none that can be read"
    elif lacking:
        found = f"lacks {len(lacking)} of {len(vms)} VMs, {lacking[0]!r} among them"
    else:
        found = "does not say that it has all VMs"
    meaning = "names and `status` take longer: `warmspare audit repository --repair` makes it whole"
    return [Check("index", "note", found, meaning)]


def wrong(name: str, error: WarmspareError) -> Check:
    """What an error says, as a check."""
    return Check(name, "wrong", error.what + (f" ({error.where})" if error.where else ""), error.hint)


def _check(examined: Examined, tried: Tried, single_sender: bool) -> Check:
    name = _NAMES[tried.promise]
    if tried.kept:
        return Check(name, "ok", tried.found)
    alone = tried.promise is Promise.CREATE and examined.ignores_creates and single_sender
    if tried.promise in NEEDED and not alone:
        if tried.error is not None:
            return wrong(name, tried.error)
        return Check(name, "wrong", tried.found, "no repository is safe in this store: syncs refuse it")
    found = tried.found if tried.error is None else wrong(name, tried.error).found
    return Check(name, "note", found, FOLLOWS.get(tried.promise) or _STAYS[tried.promise])
