"""What VMs, disks, runs, packs and restore points are known by, a type each; owns how one form becomes another.

An ID is text and checked where it comes in: a record by its type (a msgspec struct takes these as they are), a key by
its pattern. A type checker then refuses one for the other, above all a VM's ID where its part of a key is meant.
docs/format.md, "Keys".
"""

from __future__ import annotations

import functools
import re
import secrets
from typing import NamedTuple, NewType

import msgspec

from warmspare.errors import ConfigError
from warmspare.model.keyparts import decode_name, encode_name
from warmspare.outside.records import REQUEST_WORD, Hex32, Line, RequestWord, Sequence, Sha256

VmId = NewType("VmId", Line)
"""What a repository knows a VM by for ever: of vCenter's its instance UUID, else what people call it."""
VmKey = NewType("VmKey", Line)
"""The same as a part of keys, file names and tags. Made by `vm_key`, or read out of a key."""
DiskId = NewType("DiskId", Line)
"""What a VM's disk is known by for ever; of vSphere's its UUID, else what people call it."""
DiskKey = NewType("DiskKey", Line)
"""The same as a part of file names and tags. Made by `disk_key`, or read out of a tag."""
RunId = NewType("RunId", Hex32)
"""One sync, or one pass of it that was cut off: 16 random bytes, as keys and JSON have them. What is binary has them as
they are, and turns them at once (`run_of`, `run_bytes`): no other code sees the bytes."""
RequestId = NewType("RequestId", RequestWord)
"""What a scheduler calls one of its runs, so that it makes one restore point however often it is tried. Made by
`request_id`, or checked by its type."""
RUN_BYTES = 16


class PackId(NamedTuple):
    """A pack: whose it is, and its number in its run. A tuple, since a million of them may be keys of a dict."""

    run: RunId
    number: int


class PointId(msgspec.Struct, frozen=True):
    """A restore point: its sequence, and the SHA-256 (hex) of its record."""

    sequence: Sequence
    sha256: Sha256

    @property
    def label(self) -> str:
        """What people and options call it: the sequence and eight digits of the SHA-256."""
        return f"{self.sequence}-{self.sha256[:8]}"


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


def new_run() -> RunId:
    return RunId(secrets.token_hex(RUN_BYTES))


@functools.lru_cache(maxsize=256)  # a million packs are of few runs: one text each
def run_of(raw: bytes) -> RunId:
    """Out of a binary field; ValueError (a bug of the caller) where that has another length."""
    if len(raw) != RUN_BYTES:
        raise ValueError(f"a run has {RUN_BYTES} bytes and not {len(raw)}")
    return RunId(raw.hex())


def run_bytes(run: RunId) -> bytes:
    """For a binary field; ValueError (a bug of the caller) where it is none."""
    raw = bytes.fromhex(run)
    if len(raw) != RUN_BYTES:
        raise ValueError(f"a run has {RUN_BYTES} bytes and not {len(raw)}")
    return raw


def request_id(text: str) -> RequestId:
    """ConfigError for what can't be one."""
    if not re.search(REQUEST_WORD, text):
        raise ConfigError(
            f"{text[:40]!r} is no request ID",
            where="--request-id",
            hint="give 1 to 200 printable characters of ASCII, the first and the last of them no space",
        )
    return RequestId(text)
