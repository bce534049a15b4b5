"""Which VM of a repository somebody means, and its newest restore point; refuses to take the index's word for it.

The index says where to look. What counts is the VM's own newest record, which is read and must call it so, and that no
record stands above it, for which its keys are listed from there on. A name that the index does not know, or that no
record bears out, is looked for through all VMs before it counts as nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmspare.errors import ConfigError, NotFoundError
from warmspare.format.index_shard import IndexShard, is_uuid, shard_of
from warmspare.model.ids import VmId, vm_key
from warmspare.repository.chain import Point, Repository
from warmspare.repository.vm_index import VmIndex
from warmspare.side_by_side import side_by_side

AT_ONCE = 32  # VMs that are looked at, where all have to be


@dataclass(frozen=True, slots=True)
class NamedVm:
    """id: what was given, where no VM is called so. newest: the sequence of its newest restore point, None if it has
    none. point: that point, where it had to be read for its name."""

    id: VmId
    newest: int | None
    point: Point | None = None


class VmNames:
    """Of one repository, for who asks for several of its VMs: the long way is gone once for all of them."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._all: list[NamedVm] | None = None  # with their newest points, where all had to be looked at

    async def find(self, given: str) -> NamedVm:
        """The VM that people call `given`: an ID itself, or the name that the newest point of just one VM states.
        ConfigError where there are several."""
        repository = self._repository
        vm_key(VmId(given))  # refuses what can't be one
        shard = await VmIndex(repository).read(shard_of(given))
        if not is_uuid(given):  # else an ID, most likely, and no VM may hide another's by its name
            found = await _by_index(repository, shard, given)
            if found is not None:
                return found
        own = shard.entry(VmId(given)) if shard is not None else None
        newest = await repository.newest(VmId(given), hint=own.sequence if own is not None else 0)
        if newest is not None:
            return NamedVm(VmId(given), newest)
        found = await _by_index(repository, shard, given) if is_uuid(given) else None
        return found or await self._by_all(given)

    async def known(self, given: str) -> VmId:
        """The ID alone. ConfigError where no restore point is of such a VM, however it is looked for."""
        found = await self.find(given)
        if found.newest is None:
            raise ConfigError(
                f"there is no VM {given!r} in this repository",
                where=self._repository.store.uri,
                hint="`warmspare status` shows which there are",
            )
        return found.id

    async def point(self, given: str, wanted: str | None) -> Point:
        """The restore point that --vm and --at name; the newest without. ConfigError where there is none."""
        vm, repository = await self.find(given), self._repository
        if wanted in (None, "latest"):
            if vm.point is not None:
                return vm.point
            if vm.newest is not None:
                return await repository.load(vm.id, vm.newest)
        return await repository.load(vm.id, await repository.resolve(vm.id, wanted or "latest", newest=vm.newest))

    async def _by_all(self, given: str) -> NamedVm:
        """Looked for among all VMs."""
        if self._all is None:
            self._all = await side_by_side(self._newest, await self._repository.vms(), AT_ONCE)
        called = [one for one in self._all if one.point is not None and one.point.record.vm_name == given]
        return _only(self._repository, given, called) if called else NamedVm(VmId(given), None)

    async def _newest(self, vm: VmId) -> NamedVm:
        newest = await self._repository.newest(vm)
        return NamedVm(vm, newest, None if newest is None else await self._repository.load(vm, newest))


async def find(repository: Repository, given: str) -> NamedVm:
    """As VmNames.find, of one VM."""
    return await VmNames(repository).find(given)


async def vm_called(repository: Repository, given: str) -> VmId:
    """The ID alone."""
    return (await find(repository, given)).id


async def point_called(repository: Repository, given: str, wanted: str | None) -> Point:
    """As VmNames.point, of one VM."""
    return await VmNames(repository).point(given, wanted)


async def _by_index(repository: Repository, shard: IndexShard | None, given: str) -> NamedVm | None:
    """As the index has it, and the VM's own record. None where the index does not tell."""
    if shard is None:
        return None
    own = shard.entry(VmId(given))
    if own is not None:
        newest = await repository.newest(own.id, hint=own.sequence)
        return NamedVm(own.id, newest) if newest is not None else None
    if not shard.whole:
        return None  # another VM of that name may be missing there
    called = []
    for entry in shard.vms:
        if entry.name == given:
            found = await _proved(repository, entry.id, given, entry.sequence)
            called += [found] if found is not None else []
    return _only(repository, given, called) if called else None


async def _proved(repository: Repository, vm: VmId, name: str, hint: int) -> NamedVm | None:
    """The VM, if its newest record has that name."""
    newest = await repository.newest(vm, hint=hint)
    if newest is None:
        return None
    try:
        point = await repository.load(vm, newest)
    except NotFoundError:
        return None
    return NamedVm(vm, newest, point) if point.record.vm_name == name else None


def _only(repository: Repository, given: str, called: list[NamedVm]) -> NamedVm:
    if len(called) > 1:
        raise ConfigError(
            f"{len(called)} VMs in this repository are called {given!r}",
            where=", ".join(one.id for one in called),
            hint="give --vm one of these IDs",
        )
    return called[0]
