"""The keys of a repository; refuses I/O and the meaning of objects.

```
repository.json
vms/<vm>/points/<seq:010d>.json
vms/<vm>/manifests/<run>/<disk index:03d>.manifest
vms/<vm>/packs/<run>/<number:06d>.pack
vms/<vm>/tables/<run>/<disk index:03d>.table
vms/<vm>/marks/<seq:010d>-<16 hex digits>.json
vms/<vm>/retention/<generation:010d>.json
vms/<vm>/folds/<run>/<seq:010d>-<disk index:03d>.manifest
vms/<vm>/folds/<run>/<seq:010d>-<part:05d>.descent
vms/<vm>/holds/<seq:010d>-<16 hex digits>.json
vms/<vm>/lease.json
vms/<vm>/prune.json
vms/<vm>/failover.json
index/<shard:02x>.json
index/whole.json
probes/<token>/<name>
```
`<vm>` is a VmKey (model/ids.py), which holds no `/`.
"""

from __future__ import annotations

import re

from warmspare.model.ids import PackId, RunId, VmKey

KEY_BYTES = 700  # the longest key of the contract (store/contract.py)

_KEY = re.compile(r"[A-Za-z0-9_.=-]+(?:/[A-Za-z0-9_.=-]+)*")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_.=-]+/)*[A-Za-z0-9_.=-]*")
_DOTS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")
_POINT = re.compile(r"vms/[A-Za-z0-9_.=-]+/points/([0-9]{10})\.json")
_RETENTION = re.compile(r"vms/[A-Za-z0-9_.=-]+/retention/([0-9]{10})\.json")
_HOLD = re.compile(r"vms/[A-Za-z0-9_.=-]+/holds/([0-9]{10})-([0-9a-f]{16})\.json")
_SHARD = re.compile(r"index/([0-9a-f]{2})\.json")
_VM = re.compile(r"vms/([A-Za-z0-9_.=-]+)/.+")
_OBJECT = re.compile(
    r"repository\.json|index/(?:[0-9a-f]{2}|whole)\.json|vms/[^/]+/(?:(?:lease|prune|failover)\.json"
    r"|points/[0-9]{10}\.json|(?:marks|holds)/[0-9]{10}-[0-9a-f]{16}\.json"
    r"|retention/[0-9]{10}\.json|folds/[^/]+/[0-9]{10}-(?:[0-9]{3}\.manifest|[0-9]{5}\.descent)"
    r"|manifests/[^/]+/[0-9]{3}\.manifest|packs/[^/]+/[0-9]{6}\.pack|tables/[^/]+/[0-9]{3}\.table)"
)
_ABOVE = re.compile(
    r"index|vms(?:/[^/]+(?:/(?:points|marks|holds|retention|(?:folds|manifests|packs|tables)(?:/[^/]+)?))?)?"
)


def check_key(key: str) -> str:
    """The key itself if the contract allows it; ValueError (a bug of the caller) otherwise."""
    if len(key) > KEY_BYTES or not _KEY.fullmatch(key) or _DOTS.search(key):
        raise ValueError(f"not a key of the store: {key[:KEY_BYTES]!r}")
    return key


def check_prefix(prefix: str) -> str:
    """The prefix itself if some key could start with it; ValueError (a bug of the caller) otherwise."""
    whole_parts = prefix.rpartition("/")[0]
    if len(prefix) > KEY_BYTES or not _PREFIX.fullmatch(prefix) or (whole_parts and _DOTS.search(whole_parts)):
        raise ValueError(f"not a prefix of keys of the store: {prefix[:KEY_BYTES]!r}")
    return prefix


def names_object(key: str) -> bool:
    """Whether it is a whole key of the above, so that no longer key can begin with it and a `/`."""
    return _OBJECT.fullmatch(key) is not None


def holds_objects(key: str) -> bool:
    """Whether it is what whole keys of the above begin with before a `/`."""
    return _ABOVE.fullmatch(key) is not None


def repository_key() -> str:
    """The record that makes a prefix a repository."""
    return "repository.json"


def all_vms_prefix() -> str:
    """What every key of every VM starts with."""
    return "vms/"


def vm_prefix(vm: VmKey) -> str:
    """What every key of one VM starts with."""
    return f"vms/{vm}/"


def points_prefix(vm: VmKey) -> str:
    """What the keys of a VM's restore points start with; they list in the order of their sequence numbers."""
    return f"vms/{vm}/points/"


def point_key(vm: VmKey, seq: int) -> str:
    """A restore point, by its sequence number (0 to 9 999 999 999)."""
    return f"vms/{vm}/points/{_number(seq, 10)}.json"


def parse_point_key(key: str) -> int | None:
    """The sequence number in a restore point's key; None for any other key."""
    match = _POINT.fullmatch(key)
    return int(match[1]) if match else None


def manifest_key(vm: VmKey, run: RunId, index: int) -> str:
    """The manifest that a run wrote for its index-th disk."""
    return f"vms/{vm}/manifests/{run}/{_number(index, 3)}.manifest"


def pack_key(vm: VmKey, pack: PackId) -> str:
    return f"vms/{vm}/packs/{pack.run}/{_number(pack.number, 6)}.pack"


def table_key(vm: VmKey, run: RunId, index: int) -> str:
    """The checkpoint of the hash table that a run wrote for its index-th disk."""
    return f"vms/{vm}/tables/{run}/{_number(index, 3)}.table"


def marks_prefix(vm: VmKey) -> str:
    """What the keys of a VM's marks start with."""
    return f"vms/{vm}/marks/"


def mark_key(vm: VmKey, seq: int, token: str) -> str:
    """A mark made when that restore point was the newest. token: 16 hex digits."""
    return f"{marks_prefix(vm)}{_number(seq, 10)}-{token}.json"


def retention_prefix(vm: VmKey) -> str:
    """What the keys of a VM's retention records start with; they list in the order of their generations."""
    return f"vms/{vm}/retention/"


def retention_key(vm: VmKey, generation: int) -> str:
    """A retention record, by its generation."""
    return f"{retention_prefix(vm)}{_number(generation, 10)}.json"


def parse_retention_key(key: str) -> int | None:
    """The generation in a retention record's key; None for any other key."""
    match = _RETENTION.fullmatch(key)
    return int(match[1]) if match else None


def folds_prefix(vm: VmKey) -> str:
    """What the keys of all that stands for dropped points start with."""
    return f"vms/{vm}/folds/"


def fold_key(vm: VmKey, run: RunId, seq: int, index: int) -> str:
    """The manifest that a retention made for the index-th disk of the point that a fold leads to."""
    return f"{folds_prefix(vm)}{run}/{_number(seq, 10)}-{_number(index, 3)}.manifest"


def descent_key(vm: VmKey, run: RunId, seq: int, part: int) -> str:
    """A part of the records that a retention took out of the chain before that point."""
    return f"{folds_prefix(vm)}{run}/{_number(seq, 10)}-{_number(part, 5)}.descent"


def holds_prefix(vm: VmKey) -> str:
    """What the keys of a VM's holds start with."""
    return f"vms/{vm}/holds/"


def hold_key(vm: VmKey, seq: int, token: str) -> str:
    """A hold on that restore point. token: 16 hex digits."""
    return f"{holds_prefix(vm)}{_number(seq, 10)}-{token}.json"


def parse_hold_key(key: str) -> tuple[int, str] | None:
    """The restore point's sequence and the token in a hold's key; None for any other key."""
    match = _HOLD.fullmatch(key)
    return (int(match[1]), match[2]) if match else None


def run_prefixes(vm: VmKey, run: RunId) -> tuple[str, ...]:
    """What the keys of all objects start with that one run puts there before it publishes."""
    return tuple(f"vms/{vm}/{kind}/{run}/" for kind in ("packs", "manifests", "tables"))


def lease_key(vm: VmKey) -> str:
    """The lease on a VM."""
    return f"vms/{vm}/lease.json"


def prune_lease_key(vm: VmKey) -> str:
    """The lease on letting points of a VM go, beside which syncs go on."""
    return f"vms/{vm}/prune.json"


def failover_key(vm: VmKey) -> str:
    """The record of a VM's failover, if it was failed over."""
    return f"vms/{vm}/failover.json"


def index_prefix() -> str:
    """What the keys of the index start with."""
    return "index/"


def index_key(shard: int) -> str:
    """A shard of the index of VMs (0 to 255)."""
    if not 0 <= shard < 256:
        raise ValueError(f"{shard} is no shard")
    return f"{index_prefix()}{shard:02x}.json"


def index_whole_key() -> str:
    """The mark that says that the index has all shards that it needs."""
    return f"{index_prefix()}whole.json"


def parse_index_key(key: str) -> int | None:
    """The shard in a key; None for any other key."""
    match = _SHARD.fullmatch(key)
    return int(match[1], 16) if match else None


def probes_prefix() -> str:
    """What the keys of all probes start with."""
    return "probes/"


def probe_prefix(token: str) -> str:
    """What the keys of one trial's probes start with. token: 32 hex digits."""
    return f"{probes_prefix()}{token}/"


def probe_key(token: str, name: str) -> str:
    """An object that is nothing but tried on."""
    return f"{probe_prefix(token)}{name}"


def vm_of_key(key: str) -> VmKey | None:
    """The VM that a key belongs to; None if it belongs to none."""
    match = _VM.fullmatch(key)
    return VmKey(match[1]) if match else None


def _number(value: int, digits: int) -> str:
    """Fixed width, so that keys sort as numbers; ValueError when it would not fit."""
    if not 0 <= value < 10**digits:
        raise ValueError(f"{value} does not fit into {digits} digits")
    return f"{value:0{digits}d}"
