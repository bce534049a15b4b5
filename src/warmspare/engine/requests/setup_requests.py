"""Looks before the first run: what is configured, what a sync depends on, what could be protected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import Request, RunContext
from warmspare.engine.requests.sync_requests import loaded
from warmspare.errors import ConfigError, WarmspareError
from warmspare.observe.kinds.setup_events import ConfigOk, ConfigProblem, DoctorCheck, DoctorDone
from warmspare.observe.kinds.source_events import SourceWarning, VmListed, VmMissing, VmsDone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from warmspare.config.problems import Problem
    from warmspare.config.settings import RepositorySettings, Settings, VCenter
    from warmspare.source.identity import Identity
    from warmspare.source.vddk.vddk_doctor import Check
    from warmspare.vsphere.inventory.listing import ListedVm, Listing

WRONG = MISSING = 2
Section = tuple[str, "list[Check]"]


class ConfigCheckRequest(Request[ConfigOk], frozen=True, kw_only=True):
    """Validate the configuration, and read every secret it names. SettingsError with all that is wrong. config: the
    file; None: the usual one."""

    carried = ConfigOk

    config: Path | None = None

    async def perform(self, run: RunContext) -> ConfigOk:
        from warmspare.config.problems import SettingsError
        from warmspare.engine.wiring.config_told import told

        try:
            settings = loaded(self.config)
            if problems := await check_values(settings):
                raise SettingsError(problems)
        except SettingsError as error:
            for problem in error.problems if len(error.problems) > 1 else []:
                place = problem.place
                run.events.emit(ConfigProblem(path=place.file, line=place.line, key=place.key, message=str(problem)))
            raise
        done = told(settings)
        run.events.emit(done)
        return done


async def check_values(settings: Settings) -> list[Problem]:
    """What only trying shows: that each secret can be read, and that each repository's URI is one."""
    import asyncio

    problems: list[Problem] = []
    for secret in settings.secrets():
        try:
            await asyncio.to_thread(secret.reveal)
        except ConfigError as error:
            problems.append(secret.place.problem(error.what, error.hint))
    for repository in settings.repositories:
        try:
            store = RepositoryPlace.of(repository).open()
        except ConfigError as error:
            problems.append(repository.place.problem(error.what, error.hint))
        else:
            await store.close()
    return problems


class DoctorRequest(Request[DoctorDone], frozen=True, kw_only=True):
    """Check VDDK, repositories, vCenter, and each VM: privileges, change tracking, snapshots, its host's port.

    vms: `[vm.NAME]`s; none: all. config: the file; None: the usual one. vddk: only a VDDK: its folder.
    """

    vms: tuple[str, ...] = ()
    config: Path | None = None
    vddk: Path | None = None

    async def perform(self, run: RunContext) -> DoctorDone:
        sections = await self._sections(run)
        for subject, section in sections:
            for check in section:
                run.events.emit(
                    DoctorCheck(
                        subject=subject,
                        name=check.name,
                        state=check.state,
                        found=check.found,
                        meaning=check.meaning,
                    )
                )
        states = [check.state for _, section in sections for check in section]
        done = DoctorDone(wrong=states.count("wrong"), notes=states.count("note"))
        run.events.emit(done)
        return done

    async def _sections(self, run: RunContext) -> list[Section]:
        if self.vddk is not None:
            from warmspare.source.vddk.vddk_doctor import examine

            return [(f"VDDK in {self.vddk}", await examine(self.vddk))]
        return await _configured(loaded(self.config), self.vms, run)

    def exit_code(self, result: DoctorDone) -> int:
        return WRONG if result.wrong else 0


async def _configured(settings: Settings, names: Sequence[str], run: RunContext) -> list[Section]:
    """Everything that the VMs of the configuration depend on."""
    from warmspare.engine.wiring.configured import chosen, open_session
    from warmspare.repository.repository_doctor import wrong
    from warmspare.source.identity import twins
    from warmspare.source.vddk import vddk_doctor
    from warmspare.source.vddk.vddk_doctor import Check
    from warmspare.vsphere.inventory.find import find
    from warmspare.vsphere.inventory.neighbours import identity_of
    from warmspare.vsphere.vm_doctor import examine

    vms = chosen(settings, names)
    logins = run.host.logins(run.events, again=True)
    sections: list[Section] = []
    for directory, config in dict.fromkeys((vm.vcenter.vddk, vm.vcenter.vddk_config) for vm in vms):
        sections.append((f"VDDK in {directory}", await vddk_doctor.examine(directory, config)))
    for repository in dict.fromkeys(vm.repository for vm in vms):
        sections.append((f"repository {repository.name}", await _repository(repository)))
    met: list[tuple[int, str, Identity]] = []  # section, repository, which VM
    for vcenter in dict.fromkeys(vm.vcenter for vm in vms):
        subject = f"vCenter {vcenter.name}"
        try:
            async with open_session(vcenter, run.events, logins) as session:
                for vm in [vm for vm in vms if vm.vcenter == vcenter]:
                    try:
                        for info in await find(session, vm.find):
                            checks = await examine(session, info, vm.policy)
                            met.append((len(sections), vm.repository.uri, identity_of(session, info)))
                            sections.append((f"VM {info.name} of {vcenter.name}", checks))
                    except ConfigError as error:
                        sections.append((f"VM {vm.name} of {vcenter.name}", [wrong("VM", error)]))
        except WarmspareError as error:
            sections.append((subject, [wrong("vCenter", error)]))
    same = twins((uri, identity) for _, uri, identity in met)
    for at, uri, identity in met:
        places = same.get((uri, identity.instance_uuid), [])
        if others := [str(place) for place in places if not place.same(identity.place)]:
            found = f"its instance UUID {identity.instance_uuid} is that of {' and '.join(others)} too"
            hint = "give one of them another one, or take it out of the configuration: neither is synced like this"
            sections[at][1].append(Check("identity", "wrong", found, hint))
    return sections


async def _repository(repository: RepositorySettings) -> list[Check]:
    from warmspare.repository.repository_doctor import examine_repository, wrong

    try:
        store = RepositoryPlace.of(repository).open()
    except WarmspareError as error:
        return [wrong("repository", error)]
    try:
        return await examine_repository(store, single_sender=repository.single_sender)
    finally:
        await store.close()


class ListedVms(msgspec.Struct, frozen=True):
    """The VMs of every vCenter, and the entries of the configuration that mean none."""

    vms: tuple[VmListed, ...]
    missing: tuple[VmMissing, ...]


class VmsRequest(Request[ListedVms], frozen=True, kw_only=True):
    """List the VMs of every vCenter of the configuration: protected, possible, impossible and why. config: the file;
    None: the usual one."""

    config: Path | None = None

    async def perform(self, run: RunContext) -> ListedVms:
        from warmspare.engine.wiring.configured import open_session
        from warmspare.vsphere.inventory.listing import listing, with_twins

        settings = loaded(self.config)
        logins = run.host.logins(run.events)
        failed: list[WarmspareError] = []
        looked: list[tuple[VCenter, Listing]] = []
        for vcenter in settings.vcenters:
            configured = [vm for vm in settings.vms if vm.vcenter == vcenter]
            try:
                async with open_session(vcenter, run.events, logins) as session:
                    looked.append((vcenter, await listing(session, configured)))
            except WarmspareError as error:  # the others are listed all the same
                failed.append(error)
        vms: list[VmListed] = []
        missing: list[VmMissing] = []
        listings = with_twins([found for _, found in looked])
        for (vcenter, _), found in zip(looked, listings, strict=True):
            here = [_listed(vcenter, one) for one in found.vms]
            none = [VmMissing(vcenter=vcenter.name, name=name, message=reason) for name, reason in found.missing]
            for event in [*here, *none]:
                run.events.emit(event)
            vms += here
            missing += none
        run.events.emit(VmsDone(count=len(vms), missing=len(missing)))
        for other in failed[1:]:
            run.events.emit(SourceWarning(message=other.sentence))
        if failed:
            raise failed[0]
        return ListedVms(tuple(vms), tuple(missing))

    def exit_code(self, result: ListedVms) -> int:
        return MISSING if result.missing else 0


def _listed(vcenter: VCenter, one: ListedVm) -> VmListed:
    """A VM as an event."""
    from warmspare.observe.kinds.repository_events import NamedReason

    vm = one.vm
    return VmListed(
        vcenter=vcenter.name,
        vm=vm.instance_uuid,
        vm_name=vm.name,
        path=vm.path,
        host=vm.host,
        power=vm.power,
        state=one.state,
        names=list(one.names),
        reason=one.reason,
        disks=one.disks,
        left_out=[NamedReason(name=name, reason=reason) for name, reason in one.left_out],
        change_tracking=vm.change_tracking,
        unknown=list(vm.unknown),
        twins=list(one.twins),
    )
