"""What VMs, disks, runs, packs and restore points are known by, a type each; owns how one form becomes another.

An ID is text and checked where it comes in: a record by its type (a msgspec struct takes these as they are), a key by
its pattern. A type checker then refuses one for the other, above all a VM's ID where its part of a key is meant.
docs/format.md, "Keys".
"""

from __future__ import annotations

from typing import NewType

from warmspare.model.keyparts import decode_name, encode_name
from warmspare.outside.records import Line

VmId = NewType("VmId", Line)
"""What a repository knows a VM by for ever: of vCenter's its instance UUID, else what people call it."""
VmKey = NewType("VmKey", Line)
"""The same as a part of keys, file names and tags. Made by `vm_key`, or read out of a key."""
DiskId = NewType("DiskId", Line)
"""What a VM's disk is known by for ever; of vSphere's its UUID, else what people call it."""
DiskKey = NewType("DiskKey", Line)
"""The same as a part of file names and tags. Made by `disk_key`, or read out of a tag."""


def vm_key(vm: VmId) -> VmKey:
    """ConfigError for what can't be one: empty, or not to be read."""
    return VmKey(encode_name(vm))


def vm_of(key: VmKey) -> VmId | None:
    """The VM whose key this is; None where the ID was too long to stand in it whole."""
    name = decode_name(key)
    return None if name is None else VmId(name)


def disk_key(disk: DiskId) -> DiskKey:
    """ConfigError for what can't be one: empty, or not to be read."""
    return DiskKey(encode_name(disk))
