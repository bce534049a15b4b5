"""Events of setting up: what the configuration says, and what `doctor` sees."""

from __future__ import annotations

from typing import Annotated

import msgspec

from warmspare.observe.event import Event, Weight, note


class ConfigProblem(Event, frozen=True, kw_only=True, tag="config.problem"):
    """`config check`, where there are several; an error follows."""

    usual = Weight.ALARM

    path: str
    line: Annotated[int | None, note(description="null: not known")]
    key: str
    message: str


class ConfiguredVcenter(msgspec.Struct, frozen=True, kw_only=True):
    """A `[vcenter.NAME]`. password: where it comes from."""

    name: str
    host: str
    port: int
    user: str
    password: str
    thumbprint: str | None
    ca_file: str | None
    vddk: str
    vddk_config: str | None
    transport: list[str]


class ConfiguredRepository(msgspec.Struct, frozen=True, kw_only=True):
    """A `[repository.NAME]`. limit: a text for each period."""

    name: str
    uri: str
    endpoint_url: str | None
    region: str | None
    profile: str | None
    limit: list[str]
    s3: dict[str, str | bool | None]
    single_sender: bool
    staged_region: str | None
    staged_profile: str | None


class ConfiguredRetention(msgspec.Struct, frozen=True, kw_only=True):
    """Which restore points of a `[vm.NAME]` are kept; all zero: all of them."""

    keep_last: int
    keep_within_s: int
    keep_hourly: int
    keep_daily: int
    keep_weekly: int
    keep_monthly: int
    keep_yearly: int
    time_zone: str
    trust_created: bool


class ConfiguredVm(msgspec.Struct, frozen=True, kw_only=True):
    """A `[vm.NAME]`. find: by what, and its value."""

    name: str
    vcenter: str
    repository: str
    find: dict[str, str]
    several: bool
    include: list[int | str] | None
    exclude: list[int | str]
    quiesce: str
    full_compare: str
    snapshot_name: str
    level: int | None
    state: str | None
    rpo_s: int
    max_snapshot_age_s: int | None
    spool: str | None
    spool_bytes: int | None
    audit_period_s: int
    retention: ConfiguredRetention


class ConfiguredLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`[limits]`."""

    vms_at_once: int
    per_host: int


class ConfigOk(Event, frozen=True, kw_only=True, tag="config.ok"):
    """`config check`: the configuration is right; of secrets only where they come from."""

    path: str
    vcenters: list[ConfiguredVcenter]
    repositories: list[ConfiguredRepository]
    vms: list[ConfiguredVm]
    limits: ConfiguredLimits


class DoctorCheck(Event, frozen=True, kw_only=True, tag="check"):
    """`doctor`: one thing that a sync depends on."""

    subject: str
    name: str
    state: Annotated[str, note(description="ok, note, wrong")]
    found: str
    meaning: str

    def weight(self) -> Weight:
        return {"ok": Weight.PLAIN, "note": Weight.WARNING}.get(self.state, Weight.ALARM)


class DoctorDone(Event, frozen=True, kw_only=True, tag="doctor.done"):
    """`doctor`; exit code 2 if anything is wrong."""

    ends = True

    wrong: int
    notes: int
