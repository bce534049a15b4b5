"""Which points of which VM are kept: by the configuration's policy, and by what is said beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.retention_rules import RetentionRules, policy_by
from warmspare.engine.wiring.fleet_expected import FleetExpected, is_at
from warmspare.model.ids import PointId, VmId
from warmspare.repository.chain import Repository
from warmspare.repository.holds import holds_of, reasons, standing
from warmspare.retain.policy import RetentionPolicy
from warmspare.retain.removal import Policies

if TYPE_CHECKING:
    from warmspare.config.retention_settings import RetentionSettings
    from warmspare.config.settings import StagedPlace
    from warmspare.recover.aws.client import Aws


def chosen_policies(
    place: RepositoryPlace, config: Path | None, rules: RetentionRules, vm: str | None
) -> ChosenPolicies | None:
    """Of that repository. config: whose VMs count. rules: beside it. vm: the only one that is meant. None where nothing
    says which points are kept. ConfigError."""
    from warmspare.config.load import load
    from warmspare.engine.host_places import config_path

    named = config or place.config
    path = config_path(named)
    fleet: FleetExpected | None = None
    staged: StagedPlace | None = None
    if named is not None or _may_be_there(path):
        settings = load(path)
        fleet = FleetExpected.of(settings, place.uri, named)
        staged = next((one.staged for one in settings.repositories if one.staged and is_at(one, place.uri)), None)
        if named is None and not fleet.vms:
            fleet = None  # the usual file is of other repositories
    chosen = ChosenPolicies(rules, fleet, vm, staged)
    return chosen if chosen.says_anything else None


def policies(chosen: ChosenPolicies, grace_s: float, aws: Aws | None) -> Policies:
    """aws: is asked what is staged; None: that is not asked."""

    async def staged(repository: Repository, vm: VmId) -> Sequence[PointId]:
        from warmspare.recover.staging.staged import staged_points

        assert aws is not None
        return [one.id for one in await staged_points(aws, repository.id, vm)]

    return Policies(chosen, _held, staged if aws is not None else None, grace_s)


def _may_be_there(path: Path) -> bool:
    """Also where we may not look: then it is refused, and not left out of account."""
    try:
        return path.exists()
    except PermissionError:
        return True


async def _held(repository: Repository, vm: VmId) -> Mapping[int, Sequence[str]]:
    return reasons(await standing(repository, await holds_of(repository, vm)))


class ChosenPolicies:
    """The policy of a VM, by its ID and its name in the repository. staged: where the configuration says that what is
    staged stands, None where it does not."""

    def __init__(
        self, rules: RetentionRules, fleet: FleetExpected | None, wanted: str | None, staged: StagedPlace | None
    ) -> None:
        self._rules, self._fleet, self._wanted, self.staged = rules, fleet, wanted, staged

    @property
    def says_anything(self) -> bool:
        said = self._rules != RetentionRules()
        return said or bool(self._fleet and any(not policy_by(vm.policy.retention).empty for vm in self._fleet.vms))

    def __call__(self, vm: VmId, name: str) -> RetentionPolicy | None:
        base = self._fleet.retention(vm, name) if self._fleet is not None else None
        if base is None and self._fleet is not None and self._wanted is None:
            return None  # nobody protects it any more; what is left of it is all there is
        policy = policy_by(self._rules.over(base or _none()))
        return None if policy.empty and self._rules == RetentionRules() else policy


def _none() -> RetentionSettings:
    from warmspare.config.retention_settings import RetentionSettings

    return RetentionSettings()
