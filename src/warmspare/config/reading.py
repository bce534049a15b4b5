"""From a parsed document to settings; owns which keys there are, their defaults and how they hang together."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from warmspare.config import retention_settings, s3_settings, timetable, values
from warmspare.config.disks import DiskSelection, disk_patterns
from warmspare.config.problems import Problems
from warmspare.config.secret import Secret
from warmspare.config.settings import (
    Find,
    FindBy,
    FleetLimits,
    FullCompare,
    Policy,
    Quiesce,
    RepositorySettings,
    Settings,
    StagedPlace,
    VCenter,
    Vm,
    suggest,
)
from warmspare.config.table import TomlTable
from warmspare.config.timetable import Period, Timetable
from warmspare.errors import ConfigError

T = TypeVar("T")

DEFAULT_TRANSPORT = ("nbdssl", "nbd")

_POLICY = (
    "disks",
    "quiesce",
    "full_compare",
    "snapshot_name",
    "level",
    "state",
    "rpo",
    "max_snapshot_age",
    "spool",
    "spool_size",
    "audit_period",
    *retention_settings.KEYS,
)
FIND: tuple[FindBy, ...] = get_args(FindBy)
_VDDK = ("vddk", "vddk_config", "transport")
_OF_S3 = ("endpoint_url", "region", "profile")
_STAGED = ("staged_region", "staged_profile")
KEYS: dict[str, tuple[str, ...]] = {
    "": ("allow_plain_secrets", "defaults", "limits", "vcenter", "repository", "vm"),
    "vcenter": ("host", "port", "user", "password", "thumbprint", "ca_file", *_VDDK),
    "repository": ("uri", *_OF_S3, *s3_settings.KEYS, "limit", "single_sender", *_STAGED),
    "defaults": ("vcenter", "repository", *_VDDK, "limit", *_POLICY),
    "vm": ("vcenter", "repository", *FIND, *_POLICY),
    "disks": ("include", "exclude"),
    "limits": ("vms_at_once", "per_host"),
    "limit": ("days", "from", "to", "rate"),
    "secret": ("file", "env", "command"),
}
"""Every key of each kind of table; "" is the top of the file, "disks", "limit" and "secret" are values of keys."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUIESCE: tuple[Quiesce, ...] = get_args(Quiesce)
_FULL_COMPARE: tuple[FullCompare, ...] = get_args(FullCompare)


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What `[defaults]` gives to the others."""

    vcenter: str | None
    repository: str | None
    vddk: Path | None
    vddk_config: Path | None
    transport: tuple[str, ...]
    limit: Timetable
    policy: Policy


class ConfigReading:
    """One document on its way to settings."""

    def __init__(self, document: dict[str, object], problems: Problems) -> None:
        self._problems = problems
        self._top = TomlTable(document, (), KEYS[""], problems)
        self._plain = self._top.take("allow_plain_secrets", values.boolean, False)

    def settings(self, path: Path) -> Settings:
        """As much as could be read; what could not is noted as a problem and left out."""
        top = self._top.table("defaults", KEYS["defaults"])
        defaults = self._defaults(top)
        limits = self._limits(self._top.table("limits", KEYS["limits"]))
        vcenters = {name: self._vcenter(name, t, defaults) for name, t in self._top.named("vcenter", KEYS["vcenter"])}
        repositories = {
            name: self._repository(name, table, defaults)
            for name, table in self._top.named("repository", KEYS["repository"])
        }
        vms: list[Vm] = []
        for name, table in self._top.named("vm", KEYS["vm"]):
            vm = self._vm(name, table, defaults, vcenters, repositories)
            if vm is None:
                continue
            vms.append(vm)
            for other in vms[:-1]:
                if (other.vcenter, other.repository, other.find) == (vm.vcenter, vm.repository, vm.find):
                    table.wrong(f"this means the same as {other.name!r}", "protect a VM once in a repository")
        for name, given, known in (
            ("vcenter", defaults.vcenter, list(vcenters)),
            ("repository", defaults.repository, list(repositories)),
        ):
            if given is not None and given not in known:
                self._unknown(top, name, given, known)
        return Settings(
            path,
            tuple(v for v in vcenters.values() if v),
            tuple(r for r in repositories.values() if r),
            tuple(vms),
            limits,
        )

    def _defaults(self, table: TomlTable) -> _Defaults:
        return _Defaults(
            vcenter=table.take("vcenter", values.name, None),
            repository=table.take("repository", values.name, None),
            vddk=table.take("vddk", values.path, None),
            vddk_config=table.take("vddk_config", values.path, None),
            transport=table.take("transport", values.transport, DEFAULT_TRANSPORT),
            limit=self._limit(table, Timetable()),
            policy=self._policy(table, Policy()),
        )

    def _limits(self, table: TomlTable) -> FleetLimits:
        usual = FleetLimits()
        return FleetLimits(
            vms_at_once=table.take("vms_at_once", values.whole(1, 256), usual.vms_at_once),
            per_host=table.take("per_host", values.whole(1, 64), usual.per_host),
        )

    def _vcenter(self, name: str, table: TomlTable, defaults: _Defaults) -> VCenter | None:
        host, user = table.need("host", values.host), table.need("user", values.text)
        port = table.take("port", values.whole(1, 65535), 443)
        password = self._secret(table, "password")
        thumbprint = table.take("thumbprint", values.thumbprint, None)
        ca_file = table.take("ca_file", values.path, None)
        if "thumbprint" in table and "ca_file" in table:
            table.wrong("thumbprint and ca_file exclude each other", "keep one of them", name="ca_file")
        vddk = table.take("vddk", values.path, None) or defaults.vddk
        if vddk is None and "vddk" not in table:
            table.wrong("there is no VDDK directory for it", "set vddk here or in [defaults]")
        vddk_config = table.take("vddk_config", values.path, defaults.vddk_config)
        transport = table.take("transport", values.transport, defaults.transport)
        if host is None or user is None or password is None or vddk is None:
            return None
        return VCenter(
            name, table.place(), host, user, password, port, thumbprint, ca_file, vddk, vddk_config, transport
        )

    def _secret(self, table: TomlTable, name: str) -> Secret | None:
        """A secret. No message repeats anything of what was written there."""
        place = table.place(name)

        @values.shaped(**{"$ref": "#/$defs/secret"})
        def parse(value: object) -> Secret:
            if isinstance(value, str):
                if not self._plain:
                    raise ConfigError(
                        "a secret must not stand in this file",
                        hint='write {file = "/PATH"}, {env = "NAME"} or {command = ["PROGRAM", "ARGUMENT"]}',
                    )
                if not value:
                    raise ConfigError("the secret is empty", hint="fill it in")
                return Secret.plain(value, place)
            if not isinstance(value, dict) or len(value) != 1 or not set(value) <= set(KEYS["secret"]):
                raise ConfigError(
                    "a secret is a table with one of the keys file, env and command",
                    hint='like {file = "/etc/warmspare/vcenter.password"}',
                )
            [(how, source)] = value.items()
            if how == "file":
                return Secret.from_file(values.path(source), place)
            if how == "env":
                if not isinstance(source, str) or not VARIABLE.fullmatch(source):
                    raise ConfigError("env must be the name of an environment variable", hint='like {env = "NAME"}')
                return Secret.from_environment(source, place)
            words = source if isinstance(source, list) else []
            if not words or not all(isinstance(w, str) and "\0" not in w for w in words) or not words[0].strip():
                raise ConfigError(
                    "command must be a list of texts, the program first", hint='like ["pass", "show", "vcenter"]'
                )
            return Secret.from_command(tuple(words), place)

        return table.need(name, parse)

    def _limit(self, table: TomlTable, base: Timetable) -> Timetable:
        """base: what holds where the table says nothing."""
        if "limit" not in table:
            return base
        periods = [self._period(entry) for entry in table.each("limit", KEYS["limit"])]
        return Timetable(tuple(period for period in periods if period is not None))

    def _period(self, table: TomlTable) -> Period | None:
        days = table.take("days", timetable.days, timetable.EVERY_DAY)
        begin, end = table.take("from", timetable.clock, 0), table.take("to", timetable.clock, timetable.DAY_MINUTES)
        if ("from" in table) != ("to" in table):
            table.wrong("from and to go together", 'give both, like from="08:00", to="18:00", or neither')
        elif begin == end or begin == timetable.DAY_MINUTES:
            table.wrong("the period has no length", 'for a whole day write from="00:00", to="24:00", or neither')
        rate = table.need("rate", values.rate)
        return None if rate is None else Period(days, begin, end, rate)

    def _repository(self, name: str, table: TomlTable, defaults: _Defaults) -> RepositorySettings | None:
        uri = table.need("uri", values.repository_uri)
        endpoint_url = table.take("endpoint_url", values.endpoint_url, None)
        region = table.take("region", values.word, None)
        profile = table.take("profile", values.word, None)
        demands = s3_settings.take(table)
        limit = self._limit(table, defaults.limit)
        single_sender = table.take("single_sender", values.boolean, False)
        staged_region = table.take("staged_region", values.word, None)
        staged_profile = table.take("staged_profile", values.word, None)
        staged = StagedPlace(staged_region, staged_profile) if staged_region or staged_profile else None
        if uri is None:
            return None
        if not uri.startswith("s3://"):
            for key in (*_OF_S3, *s3_settings.KEYS):
                if key in table:
                    table.wrong(f"{key} has no meaning for a directory", "remove it", name=key)
        return RepositorySettings(
            name, table.place("uri"), uri, endpoint_url, region, profile, limit, demands, single_sender, staged
        )

    def _vm(
        self,
        name: str,
        table: TomlTable,
        defaults: _Defaults,
        vcenters: dict[str, VCenter | None],
        repositories: dict[str, RepositorySettings | None],
    ) -> Vm | None:
        vcenter = self._reference(table, "vcenter", defaults.vcenter, vcenters)
        repository = self._reference(table, "repository", defaults.repository, repositories)
        find, policy = self._find(table), self._policy(table, defaults.policy)
        if vcenter is None or repository is None or find is None:
            return None
        return Vm(name, table.place(), vcenter, repository, find, policy)

    def _reference(self, table: TomlTable, name: str, default: str | None, known: dict[str, T | None]) -> T | None:
        """The vCenter or repository of a VM: named here, named in the defaults, or the only one there is."""
        given = table.take(name, values.name, None)
        if given is not None and given not in known:
            self._unknown(table, name, given, list(known))
            return None
        if name in table:
            return known[given] if given is not None else None
        if default is not None:
            return known.get(default)  # an unknown one is noted once, with the defaults
        if len(known) == 1:
            return next(iter(known.values()))
        if known:
            what = f"the file has {len(known)} [{name}.NAME] and nothing says which one it uses"
            table.wrong(what, f"set {name} here or in [defaults]")
        else:
            table.wrong(f"the file has no [{name}.NAME] for it", "add one")
        return None

    def _unknown(self, table: TomlTable, name: str, given: str, known: list[str]) -> None:
        hint = suggest(given, known) or (f"there is {', '.join(known)}" if known else f"add [{name}.NAME]")
        table.wrong(f"no {name} is called {given!r}", hint, name=name)

    def _find(self, table: TomlTable) -> Find | None:
        parsers: dict[FindBy, Callable[[object], str]] = {
            "path": values.inventory_path,
            "instance_uuid": values.uuid,
            "name": values.name,
            "folder": values.inventory_path,
            "tag": values.text,
        }
        given = [by for by in parsers if by in table]
        found = [Find(by, value) for by in given if (value := table.take(by, parsers[by], None)) is not None]
        if not given:
            table.wrong("nothing says how it is found", f"set one of {', '.join(parsers)}")
        elif len(given) > 1:
            table.wrong(f"{' and '.join(given)} exclude each other", "keep one of them", name=given[1])
        return found[0] if found else None

    def _policy(self, table: TomlTable, base: Policy) -> Policy:
        """base: what holds where the table says nothing."""
        return Policy(
            disks=self._disks(table, base.disks),
            quiesce=table.take("quiesce", values.choice(_QUIESCE), base.quiesce),
            full_compare=table.take("full_compare", values.choice(_FULL_COMPARE), base.full_compare),
            snapshot_name=table.take("snapshot_name", values.name, base.snapshot_name),
            level=table.take("level", values.level, base.level),
            state=table.take("state", values.path, base.state),
            rpo_s=table.take("rpo", values.duration, base.rpo_s),
            max_snapshot_age_s=table.take("max_snapshot_age", values.duration, base.max_snapshot_age_s),
            spool=table.take("spool", values.path, base.spool),
            spool_bytes=table.take("spool_size", values.size, base.spool_bytes),
            audit_period_s=table.take("audit_period", values.duration_or_none, base.audit_period_s),
            retention=retention_settings.take(table, base.retention),
        )

    def _disks(self, table: TomlTable, base: DiskSelection) -> DiskSelection:
        if "disks" not in table:
            return base
        disks = table.table("disks", KEYS["disks"])
        return DiskSelection(
            include=disks.take("include", disk_patterns, None), exclude=disks.take("exclude", disk_patterns, ())
        )
