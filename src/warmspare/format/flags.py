"""Version and feature flags of every object; owns the refusal of what this program does not know."""

from __future__ import annotations

from typing import TypeVar

from warmspare.errors import FormatError
from warmspare.outside import records
from warmspare.outside.records import UnfitError

VERSION = 1

# Incompatible features: a reader that does not know a set bit must not read on. Reserved here so that the
# numbers are never given out twice. Which of them an object may have is said where it is read.
ENCRYPTED = 1 << 0  # payloads are sealed
SHARED_BLOCKS = 1 << 1  # records refer to frames of other disks
FOLDED = 1 << 2  # a manifest stands for several restore points
NAMES = {ENCRYPTED: "encryption", SHARED_BLOCKS: "blocks shared between disks", FOLDED: "folded manifests"}

T = TypeVar("T")


def decode(data: bytes, kind: type[T], what: str, where: str, *, known: int = 0) -> T:
    """A JSON record that states both. UnfitError if it is none; before that FormatError as `check`."""
    loose = records.loose(data)
    version, feature = loose.get("format"), loose.get("flags")
    if type(version) is not int or type(feature) is not int or feature < 0:
        raise UnfitError("it names no format version")
    check(what, version, feature, where, known=known)
    return records.typed(loose, kind)


def check(kind: str, version: int, flags: int, where: str, *, known: int = 0) -> None:
    """Refuse an unknown version or feature, naming both sides. known: the features that such an object may have."""
    if version != VERSION:
        raise FormatError(
            f"the {kind} is of format version {version} and this program reads version {VERSION}",
            where=where,
            hint="use the release of warmspare that wrote it",
        )
    unknown = flags & ~known
    if unknown:
        names = [NAMES.get(1 << bit, f"bit {bit}") for bit in range(unknown.bit_length()) if unknown >> bit & 1]
        raise FormatError(
            f"the {kind} needs features that this program (format version {VERSION}) lacks: " + ", ".join(names),
            where=where,
            hint="use the release of warmspare that wrote it",
        )
