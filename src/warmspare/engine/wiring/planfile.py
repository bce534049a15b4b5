"""From the file of a recovery plan to its values; owns which keys there are, and refuses a file with anything wrong."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from warmspare.config import s3_settings, values
from warmspare.config.load import parse_document, read_text
from warmspare.config.problems import Problems, SettingsError
from warmspare.config.settings import suggest
from warmspare.config.table import TomlTable
from warmspare.engine.repository_place import site_of
from warmspare.errors import ConfigError
from warmspare.outside.regular_files import read_regular
from warmspare.recover.failover.plan import (
    Metadata,
    Network,
    Ready,
    RecoveryPlan,
    Via,
    VmPlan,
    VolumeSettings,
    fits_metadata,
)
from warmspare.recover.failover.volume_limits import LIMITS, wrong_by_itself

USER_DATA_BYTES = 16 << 10  # AWS's limit, before encoding
MOST_TAGS = 40  # of AWS's 50; the rest are ours

_START = (
    "subnet",
    "security_groups",
    "key_pair",
    "instance_profile",
    "instance_families",
    "tags",
    "user_data",
    "volumes",
    "imds",
    "metadata_tags",
    "ready",
    "ready_within",
    "via",
    "license",
    "import_role",
)
KEYS: dict[str, tuple[str, ...]] = {
    "": ("repository", "endpoint_url", "region", "profile", "rto", "s3", "defaults", "network", "drill", "vm"),
    "s3": s3_settings.KEYS,
    "network": ("subnet", "security_groups"),
    "drill": ("subnet", "security_groups"),
    "defaults": _START,
    "vm": (
        "vm",
        *_START,
        "ip",
        "ips",
        "instance_type",
        "firmware",
        "architecture",
        "platform",
        "root_disk",
        "order",
        "delay",
        "rto",
        "import_from",
    ),
    "volumes": ("type", "iops", "throughput", "initialization_rate", "keep"),
    "user_data": ("file", "text"),
}
"""Every key of each kind of table; "" is the top of the file, "volumes" and "user_data" are values of keys."""

_TYPE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")
_FAMILY = re.compile(r"[a-z][a-z0-9-]*")
_RAW = re.compile(r"s3://[a-z0-9.-]{3,63}/.+")
_IMDS = ("v2", "v1-and-v2")


def load_plan(path: Path) -> RecoveryPlan:
    """Read the file, and the user data that it names. SettingsError with all that is wrong in it; ConfigError if it
    can't be read."""
    text, _ = read_text(path, "recovery plan", "name one by --plan; docs/operations.md has an example")
    return parse_plan(text, path)


def parse_plan(text: str, path: Path) -> RecoveryPlan:
    """The plan of a text. path: names the file in messages; user data lies relative to it. SettingsError."""
    document, problems = parse_document(text, path)
    plan = _Reading(document, problems, path).plan()
    if problems.found:
        shown_by = shlex.join(["warmspare", "failover", "--plan", str(path), "--all", "--dry-run"])
        raise SettingsError(problems.found, shown_by=shown_by)
    return plan


def chosen(plan: RecoveryPlan, names: Sequence[str], everything: bool) -> list[VmPlan]:
    """The VMs of a plan that are meant, each once. ConfigError where it has no such VM, or none is meant."""
    demand_choice(names, everything)
    if everything:
        return list(plan.vms)
    found: dict[str, VmPlan] = {}
    for name in names:
        vm = plan.vm(name)
        if vm is None:
            known = [each.name for each in plan.vms]
            hint = suggest(name, known) or f"it has {', '.join(known)}"
            raise ConfigError(f"there is no VM {name!r} in the recovery plan", where=str(plan.path), hint=hint)
        found[vm.name] = vm
    return list(found.values())


def demand_choice(names: Sequence[str], everything: bool) -> None:
    """ConfigError unless VMs are named, or all are meant."""
    if bool(names) == everything:
        raise ConfigError("which VMs is not said", hint="give --vm NAME, once or more, or --all with a plan")


def resource_id(prefix: str) -> Callable[[object], str]:
    """The ID of an AWS resource, `subnet-` and hex digits."""
    shape = re.compile(re.escape(prefix) + r"-[0-9a-f]{8,17}")

    def parse(value: object) -> str:
        out = values.text(value)
        if not shape.fullmatch(out):
            raise ConfigError(
                f"{out[:40]!r} is no ID of the form {prefix}-0123456789abcdef0",
                hint="copy its ID from EC2: `aws ec2 describe-subnets`, `aws ec2 describe-security-groups`",
            )
        return out

    return parse


def several(parse: Callable[[object], str], what: str) -> Callable[[object], tuple[str, ...]]:
    """A list of values, or a single one, each once."""

    def parse_all(value: object) -> tuple[str, ...]:
        given = value if isinstance(value, list) else [value]
        out = tuple(parse(each) for each in given)
        if not out or len(set(out)) != len(out):
            raise ConfigError(f"{what} were expected, each once", hint="write a list of at least one, each once")
        return out

    return parse_all


def _matching(pattern: re.Pattern[str], what: str, hint: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        out = values.text(value)
        if not pattern.fullmatch(out):
            raise ConfigError(f"{out[:60]!r} is no {what}", hint=hint)
        return out

    return parse


def address(value: object) -> str:
    """An IPv4 address as a subnet of AWS may have it."""
    try:
        return str(ipaddress.IPv4Address(values.text(value)))
    except ValueError:
        raise ConfigError("this is no IPv4 address", hint="write it like 10.20.0.15") from None


def tags(value: object) -> dict[str, str]:
    """Tags as AWS takes them; ours and AWS's own prefixes are kept free."""
    if not isinstance(value, dict) or len(value) > MOST_TAGS:
        raise ConfigError(f"a table of at most {MOST_TAGS} tags was expected", hint='write it like {Owner = "ops"}')
    out = {}
    for key, text in value.items():
        if not isinstance(text, str) or len(text) > 256 or not 0 < len(key) <= 128:
            raise ConfigError(f"the tag {key[:40]!r} is not a text of at most 256 characters", hint="put it in quotes")
        if key.lower().startswith(("aws:", "warmspare:")):
            raise ConfigError(f"the tag {key[:40]!r} begins with what is not yours to give", hint="name it otherwise")
        out[key] = text
    return out


def addresses(value: object) -> dict[str, str]:
    """Fixed addresses by port group."""
    if not isinstance(value, dict):
        hint = 'write it like {"VM Network" = "10.20.0.15"}'
        raise ConfigError("a table of addresses by port group was expected", hint=hint)
    return {name: address(each) for name, each in value.items()}


class _Reading:
    """One document on its way to a plan."""

    def __init__(self, document: dict[str, object], problems: Problems, path: Path) -> None:
        self._path = path
        self._top = TomlTable(document, (), KEYS[""], problems)

    def plan(self) -> RecoveryPlan:
        """As much as could be read; what could not is noted as a problem and left out."""
        top = self._top
        networks = tuple(
            network for name, table in top.named("network", KEYS["network"]) if (network := self._network(name, table))
        )
        defaults = top.table("defaults", KEYS["defaults"])
        base = self._start(defaults, VmPlan("", "", networks=networks))
        vms: list[VmPlan] = []
        for name, table in top.named("vm", KEYS["vm"]):
            vms.append(self._vm(name, table, base))
            self._demand_volumes(table if "volumes" in table else defaults, vms[-1].volumes)
            for key in [] if not vms[-1].metadata.tags else vms[-1].tags:
                if not fits_metadata(key):
                    self._no_metadata(defaults if key in base.tags else table, key)
            for other in vms[:-1]:
                if other.vm == vms[-1].vm:
                    hint = "take one of the two out: a VM is recovered once"
                    table.wrong(f"this means the same VM as {other.name!r}", hint)
        if "vm" not in top:
            top.wrong("the plan has no [vm.NAME]", "add one for each VM to recover")
        return RecoveryPlan(
            self._path,
            top.take("repository", values.repository_uri, None),
            top.take("endpoint_url", values.endpoint_url, None),
            top.take("region", values.word, None),
            top.take("profile", values.word, None),
            tuple(vms),
            self._network("drill", top.table("drill", KEYS["drill"])) if "drill" in top else None,
            site_of(s3_settings.take(top.table("s3", KEYS["s3"]))) if "s3" in top else None,
            top.take("rto", values.duration, None),
        )

    def _no_metadata(self, table: TomlTable, key: str) -> None:
        """A tag with which AWS would refuse the instance: told once."""
        table.wrong(
            f"with the tag {key[:40]!r} AWS starts no instance whose metadata tells its tags",
            "write its key with letters, digits and + - = . , _ : @ only, or say metadata_tags = false",
            name="tags",
            below=key,
        )

    def _network(self, name: str, table: TomlTable) -> Network | None:
        subnet = table.need("subnet", resource_id("subnet"))
        groups = table.need("security_groups", several(resource_id("sg"), "security groups"))
        return None if subnet is None or groups is None else Network(name, subnet, groups)

    def _start(self, table: TomlTable, base: VmPlan) -> VmPlan:
        """The keys that `[defaults]` and a VM share. base: what holds where the table says nothing."""
        subnet = table.take("subnet", resource_id("subnet"), base.subnet)
        groups = table.take("security_groups", several(resource_id("sg"), "security groups"), base.security_groups)
        if subnet and not groups:
            table.wrong("a subnet goes with security groups", "set security_groups too", name="subnet")
        families = several(_matching(_FAMILY, "instance family", "write it like m7i"), "instance families")
        role = _matching(re.compile(r"[\w+=,.@-]{1,64}"), "name of a role", "give its name, not its ARN")
        return VmPlan(
            name=base.name,
            vm=base.vm,
            networks=base.networks,
            subnet=subnet,
            security_groups=groups,
            key_pair=table.take("key_pair", values.text, base.key_pair),
            instance_profile=table.take("instance_profile", values.text, base.instance_profile),
            families=table.take("instance_families", families, base.families),
            tags={**base.tags, **table.take("tags", tags, {})},
            user_data=self._user_data(table, base.user_data),
            volumes=self._volumes(table, base.volumes),
            metadata=self._metadata(table, base.metadata),
            ready=table.take("ready", values.choice(get_args(Ready)), base.ready),
            ready_s=table.take("ready_within", values.duration, base.ready_s),
            via=table.take("via", values.choice(get_args(Via)), base.via),
            license=table.take("license", values.choice(("AWS", "BYOL")), base.license),
            import_role=table.take("import_role", role, base.import_role),
        )

    def _vm(self, name: str, table: TomlTable, base: VmPlan) -> VmPlan:
        start = self._start(table, base)
        ips = table.take("ips", addresses, {})
        if "ip" in table:
            if "ips" in table:
                table.wrong("ip and ips exclude each other", "keep ips", name="ip")
            one = table.take("ip", address, None)
            ips = {} if one is None else {"": one}
        for port_group in ips:
            if port_group and not start.subnet and start.network(port_group) is None:
                known = [network.name for network in start.networks]
                hint = suggest(port_group, known) or f"add a [network.{port_group!r}]"
                table.wrong(f"no network is called {port_group!r}", hint, name="ips")
        type_name = _matching(_TYPE, "instance type", "write it like m7i.large")
        return VmPlan(
            name=name,
            vm=table.take("vm", values.text, None) or name,
            networks=start.networks,
            subnet=start.subnet,
            security_groups=start.security_groups,
            ips=ips,
            types=table.take("instance_type", several(type_name, "instance types"), ()),
            families=start.families,
            architecture=table.take("architecture", values.choice(("x86_64", "arm64")), None),
            platform=table.take("platform", values.choice(("windows", "linux")), None),
            firmware=table.take("firmware", values.choice(("bios", "uefi")), None),
            root_disk=table.take("root_disk", values.text, None),
            key_pair=start.key_pair,
            instance_profile=start.instance_profile,
            tags=start.tags,
            user_data=start.user_data,
            volumes=start.volumes,
            metadata=start.metadata,
            order=table.take("order", values.whole(1, 1000), 1),
            delay_s=table.take("delay", values.duration, 0),
            ready=start.ready,
            ready_s=start.ready_s,
            rto_s=table.take("rto", values.duration, None),
            via=start.via,
            license=start.license,
            import_role=start.import_role,
            import_from=table.take(
                "import_from", several(_matching(_RAW, "object", "write s3://BUCKET/KEY"), "objects"), ()
            ),
        )

    def _metadata(self, table: TomlTable, base: Metadata) -> Metadata:
        return Metadata(
            v1=table.take("imds", values.choice(_IMDS), _IMDS[base.v1]) != "v2",
            tags=table.take("metadata_tags", values.boolean, base.tags),
        )

    def _volumes(self, table: TomlTable, base: VolumeSettings) -> VolumeSettings:
        if "volumes" not in table:
            return base
        of = table.table("volumes", KEYS["volumes"])
        return VolumeSettings(
            type=of.take("type", values.choice(tuple(LIMITS)), base.type),
            iops=of.take("iops", values.whole(100, 256_000), base.iops),
            throughput_mib_s=of.take("throughput", values.whole(125, 2000), base.throughput_mib_s),
            initialization_mib_s=of.take("initialization_rate", values.whole(100, 300), base.initialization_mib_s),
            keep=of.take("keep", values.boolean, base.keep),
            place=str(table.place("volumes")),
        )

    @staticmethod
    def _demand_volumes(table: TomlTable, volumes: VolumeSettings) -> None:
        """Of a VM, once its own keys and the defaults' are one. table: the one that has the last word."""
        of = table.table("volumes", KEYS["volumes"])
        for wrong in wrong_by_itself(volumes):
            of.wrong(wrong.what, wrong.hint, name=wrong.key if wrong.key in of else None)

    def _user_data(self, table: TomlTable, base: str | None) -> str | None:
        if "user_data" not in table:
            return base
        of = table.table("user_data", KEYS["user_data"])
        if ("file" in of) == ("text" in of):
            of.wrong("user data is either a file or a text", 'write {file = "web.sh"} or {text = "…"}')
            return base
        name = "file" if "file" in of else "text"
        return of.take(name, self._user_data_file if name == "file" else _plain_text, base)

    def _user_data_file(self, value: object) -> str:
        path = self._path.parent / values.text(value)
        try:
            data = read_regular(path, 4 * USER_DATA_BYTES, follow=True)
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or "this is no path"
            hint = f"correct it, or put the file at {path}"
            raise ConfigError(f"the user data can't be read: {reason}", hint=hint) from None
        try:
            return _plain_text(data.decode())
        except UnicodeDecodeError:
            raise ConfigError("the user data is not UTF-8 text", hint="save it as UTF-8") from None


def _plain_text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError("user data is a text with something in it")
    if len(value.encode()) > USER_DATA_BYTES:
        raise ConfigError("user data has at most 16 KiB", hint="make it shorter: it can fetch the rest")
    return value
