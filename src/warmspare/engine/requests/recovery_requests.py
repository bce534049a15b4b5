"""Recovery: restore points staged in EBS, VMs started from them, disks written for the way home."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from msgspec.structs import replace

from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import Request, RunContext
from warmspare.engine.wiring.dry_run import would
from warmspare.engine.wiring.usual_repository import RepositoryRequest, settled
from warmspare.errors import ConfigError
from warmspare.observe.kinds.failover_events import ExportDone, FailoverDone, FailoverPlanned
from warmspare.observe.kinds.run_events import WouldDone

if TYPE_CHECKING:
    from warmspare.recover.failover.plan import RecoveryPlan, VmPlan
    from warmspare.recover.staging.stager import StageSettings

_KEY_ARN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+")


class StageRequest(RepositoryRequest[None], frozen=True, kw_only=True):
    """Write a restore point to EBS snapshots: one a disk, each an increment on the last.

    at: a restore point by number or label; None: the newest. follow: stay, and stage each new one, until cancelled.
    dry_run: say what would be put; change nothing in AWS. replica: read from this one, which must be at that point;
    replica_state: where its state is, None: beside it. keep: how many staged points to keep; keep_days: those as well
    that were staged within so many days. puts: blocks of 512 KiB a second. encrypt: with the account's own key;
    kms_key: with that of this ARN. tags: more of them, for the snapshots. region, profile: of AWS, for EC2 and EBS.
    state: where staging keeps what it has put so far; None: the usual place.
    """

    progress = ("read", "sent")

    vm: str
    at: str | None = None
    follow: bool = False
    dry_run: bool = False
    replica: Path | None = None
    replica_state: Path | None = None
    keep: int = 3
    keep_days: float = 0.0
    puts: float = 1000.0
    encrypt: bool = False
    kms_key: str | None = None
    tags: tuple[str, ...] = ()
    region: str | None = None
    profile: str | None = None
    state: Path | None = None

    async def perform(self, run: RunContext) -> None:
        from warmspare.recover.aws.client import Aws, AwsSettings
        from warmspare.recover.staging.filling import PUTS_UNDER_WAY
        from warmspare.recover.staging.stager import Stage

        if self.follow and (self.at is not None or self.dry_run):
            raise ConfigError("--follow stands against --at and --dry-run", hint="leave out --follow, or the other")
        settings = self._settings()
        store = self.repository.open(run.retrying)
        try:
            account = AwsSettings(self.region, self.profile, connections=PUTS_UNDER_WAY)
            async with Aws(account, on_retry=run.retrying) as aws:
                home = run.host.folder("stage", root=self.state)
                stage = Stage(store, self.vm, run.events, aws, state=home, settings=settings, meter=run.meter)
                if self.dry_run:
                    await stage.plan(self.at)
                else:
                    await (stage.follow() if self.follow else stage.run(self.at))
        finally:
            await store.close()

    def _settings(self) -> StageSettings:
        from warmspare.recover.staging.ebs import Encryption
        from warmspare.recover.staging.expiry import Keep
        from warmspare.recover.staging.stager import StageSettings

        if self.keep < 1 or self.keep_days < 0:
            raise ConfigError("--keep must be at least 1, and --keep-days not below 0", hint="give at least that")
        if not 1 <= self.puts <= 100_000:
            hint = "leave it out for AWS's 1000"
            raise ConfigError("--puts must be from 1 to 100000 a second", where=str(self.puts), hint=hint)
        if self.kms_key is not None and not _KEY_ARN.fullmatch(self.kms_key):
            hint = "it looks like arn:aws:kms:REGION:ACCOUNT:key/ID"
            raise ConfigError("--kms-key wants the ARN of a key", where=self.kms_key[:80], hint=hint)
        if self.replica_state is not None and self.replica is None:
            raise ConfigError("--replica-state needs --replica", hint="name the replica by --replica")
        encryption = Encryption(self.encrypt or self.kms_key is not None, self.kms_key or "")
        return StageSettings(
            self.replica,
            self.replica_state,
            encryption,
            _pairs(self.tags),
            Keep(self.keep, self.keep_days),
            self.puts,
        )


def _pairs(tags: tuple[str, ...]) -> dict[str, str]:
    """Of KEY=VALUE each. ConfigError."""
    pairs = {}
    for given in tags:
        key, found, value = given.partition("=")
        reserved = key.lower().startswith(("aws:", "warmspare:")) or key == "Name"
        if not found or not 1 <= len(key) <= 127 or len(value) > 255 or reserved:
            hint = "write KEY=VALUE; keys beginning with aws: or warmspare:, and Name, are taken"
            raise ConfigError("not a tag that can be given", where=given[:80], hint=hint)
        pairs[key] = value
    if len(pairs) > 30:
        raise ConfigError("--tag may be given 30 times", where=str(len(pairs)), hint="give at most 30")
    return pairs


class FailoverRequest(Request[FailoverDone | FailoverPlanned], frozen=True, kw_only=True):
    """Start VMs in EC2 from what is staged. Done again after an interruption, it goes on.

    vms: of the plan; without a plan, of the repository. everything: every VM of the plan. plan: the file of the
    recovery plan. at: a restore point by number or label, of one VM; None: the newest staged. dry_run: say what would
    be done and what is missing; change nothing. via: register-image or import-image. repository: where the plan does
    not name it; its URI may be "".
    """

    vms: tuple[str, ...] = ()
    everything: bool = False
    plan: Path | None = None
    at: str | None = None
    dry_run: bool = False
    via: str | None = None
    repository: RepositoryPlace | None = None
    region: str | None = None

    def located(self, run: RunContext) -> FailoverRequest:
        if self.plan is not None:  # it may name one
            return self
        return replace(self, repository=settled(self.repository, self.vms, run))

    async def perform(self, run: RunContext) -> FailoverDone | FailoverPlanned:
        from warmspare.engine.wiring.planfile import load_plan
        from warmspare.engine.wiring.recovering import recovering
        from warmspare.recover.failover.failover_run import Failover

        began = time.monotonic()
        whole = None if self.plan is None else load_plan(self.plan)
        plans = self._chosen(whole)
        if self.at is not None and len(plans) != 1:
            raise ConfigError("--at names a restore point of one VM", hint="give --vm NAME once")
        async with recovering(whole, self.repository, self.region, run) as (repository, ec2):
            failover = Failover(repository, ec2, plans, run.events)
            prepared = await failover.prepare(self.at)
            scratch = run.host.folder("points")
            prepared, outlooks = await failover.looked_into(prepared, scratch, every=self.dry_run)
            if self.dry_run:
                failover.show(prepared)
                missing = sum(len(one.lacking) for one in prepared)
                return _planned([each.answer for each in outlooks], len(prepared), missing, run)
            recovered = await failover.run(prepared)
        done = FailoverDone(vms=len(recovered), seconds=round(time.monotonic() - began, 3))
        run.events.emit(done)
        return done

    def _chosen(self, plan: RecoveryPlan | None) -> list[VmPlan]:
        from warmspare.config import values
        from warmspare.engine.wiring.planfile import chosen, demand_choice
        from warmspare.recover.failover.plan import Via, VmPlan

        try:
            how = None if self.via is None else cast("Via", values.choice(get_args(Via))(self.via))
        except ConfigError as error:
            raise ConfigError(error.what, where="--via") from None
        if plan is None:
            demand_choice(self.vms, self.everything)
            if self.everything:
                raise ConfigError("--all means the VMs of a plan, and none is given", hint="give --plan FILE")
            return [VmPlan(name, name).by(how) for name in dict.fromkeys(self.vms)]
        return [vm.by(how) for vm in chosen(plan, self.vms, self.everything)]


def _planned(answers: list[str], vms: int, missing: int, run: RunContext) -> FailoverPlanned:
    """Tell what a failover would come to; ConfigError or BootError where it would not come to its end."""
    from warmspare.recover.drills.rules import BootError
    from warmspare.recover.readiness.outlook import NOT_KNOWN, STOPS

    stops, unknown = answers.count(STOPS), answers.count(NOT_KNOWN)
    planned = FailoverPlanned(vms=vms, missing=missing, stops=stops, not_known=unknown)
    run.events.emit(planned)
    if missing:
        what = f"{missing} things are" if missing > 1 else "one thing is"
        raise ConfigError(f"{what} missing for this failover, as is said above")
    if stops:
        raise BootError(f"{stops} of {vms} VMs will not start in EC2 as they are: what stops them is said above")
    return planned


class ExportRequest(RepositoryRequest[ExportDone | WouldDone], frozen=True, kw_only=True):
    """Write the disks of a failed-over VM, or of a replica, to files for the return; each is read back.

    to: a directory, for a file a disk. format: vmdk (stream-optimised) or raw. replica: with only_replica all that is
    exported, else at the point that was failed over, so that only what changed in AWS is read from there. dry_run: say
    what would be written.
    """

    progress = ("read", "written")

    vm: str
    to: Path
    format: str = "vmdk"
    replica: Path | None = None
    only_replica: bool = False
    region: str | None = None
    dry_run: bool = False

    async def perform(self, run: RunContext) -> ExportDone | WouldDone:
        from warmspare.recover.aws.client import Aws, AwsSettings
        from warmspare.recover.failback.export import Export, ExportSettings
        from warmspare.repository.chain import open_repository

        began = time.monotonic()
        if self.format not in ("vmdk", "raw"):
            raise ConfigError(f"{self.format!r} is not one of vmdk, raw", where="--format")
        if self.only_replica and self.replica is None:
            raise ConfigError("--only-replica exports a replica, and none is named", hint="give --replica PATH")
        store = self.repository.open(run.retrying)
        try:
            async with Aws(AwsSettings(self.region), on_retry=run.retrying) as aws:
                repository = await open_repository(store)
                settings = ExportSettings(self.to, self.format, self.replica, self.only_replica)
                export = Export(repository, aws, self.vm, settings, run.events, run.meter)
                if self.dry_run:
                    return would(run, await export.look(), self.vm)
                disks = await export.run()
        finally:
            await store.close()
        done = ExportDone(vm=self.vm, disks=len(disks), seconds=round(time.monotonic() - began, 3))
        run.events.emit(done)
        return done
