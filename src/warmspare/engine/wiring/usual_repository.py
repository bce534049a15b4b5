"""The repository that is meant where none is named: the configuration's; owns which of several that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec.structs import replace

from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import Request, RunContext
from warmspare.errors import ConfigError
from warmspare.observe.kinds.run_events import Using

if TYPE_CHECKING:
    from warmspare.config.settings import RepositorySettings, Settings, Vm

T = TypeVar("T")


class RepositoryRequest(Request[T], Generic[T], frozen=True, kw_only=True):
    """Base of what is asked of one repository. repository: left away, or without a URI, it is the configuration's only
    one, or that of the VM."""

    repository: RepositoryPlace = RepositoryPlace()

    def meant(self) -> tuple[str, ...]:
        """The VMs that it is about, by ID or name; none: all, or not known."""
        vm: str | None = getattr(self, "vm", None)
        return () if vm is None else (vm,)

    def located(self, run: RunContext) -> RepositoryRequest[T]:
        place = settled(self.repository, self.meant(), run)
        if not place.uri:
            hint = (
                "give --repo URI, set WARMSPARE_REPO, or write a configuration: `warmspare config example` prints one"
            )
            raise ConfigError("--repo is missing, and there is no configuration that has the repository", hint=hint)
        return self if place is self.repository else replace(self, repository=place)


def settled(place: RepositoryPlace | None, vms: Sequence[str], run: RunContext) -> RepositoryPlace:
    """The same where it has a URI; otherwise the configuration's, with what is said of it besides. vms: whose it is, by
    ID or name. Without a URI still where there is no configuration in the usual place. ConfigError where the
    configuration is wrong, or has several and nothing says which."""
    place = place or RepositoryPlace()
    if place.uri:
        return place
    from warmspare.config.load import load
    from warmspare.engine.host_places import config_path

    path = config_path(place.config)
    if place.config is None and not path.exists():
        return place
    settings = load(path)
    found = _chosen(settings, vms)
    run.events.emit(Using(what="repository", value=found.uri, source=f"[repository.{found.name}] of {path}"))
    said = {
        name: value
        for name in ("endpoint_url", "profile", "region", "s3", "single_sender", "config")
        if (value := getattr(place, name))
    }
    return replace(RepositoryPlace.of(found), **said)


def _chosen(settings: Settings, vms: Sequence[str]) -> RepositorySettings:
    """The only one, or that of these VMs."""
    there, where = settings.repositories, str(settings.path)
    if len(there) == 1:
        return there[0]
    if not there:
        hint = "give --repo URI, or add a [repository.NAME]"
        raise ConfigError("the configuration names no repository", where=where, hint=hint)
    theirs = {vm.repository.name: vm.repository for vm in settings.vms if any(_is(vm, name) for name in vms)}
    if len(theirs) == 1:
        return next(iter(theirs.values()))
    names = [one.name for one in there if one.name in theirs or not theirs]
    *most, last = (repr(name) for name in names[:20])
    what = f"the configuration has the repositories {', '.join(most)} and {last}, and nothing says which is meant"
    hint = "give --repo URI" + ("" if vms else ", or --vm NAME of a VM that is synced to it")
    raise ConfigError(what, where=where, hint=hint)


def _is(vm: Vm, name: str) -> bool:
    """Whether a `[vm.NAME]` is what a repository calls so: by its own name there, or by ID."""
    found = vm.find.value
    by = {"name": found, "path": found.rpartition("/")[2], "instance_uuid": found}.get(vm.find.by)
    return name == vm.name or name == by or name.lower() == by
