"""The superblocks of ext4 and XFS, as far as a reader refuses what they name: features; refuses to read files.

ext4: the kernel's documentation, "ext4 data structures and algorithms"; XFS: "XFS algorithms and data structures",
and what the kernel's xfs_format.h and ext4.h have named since.
"""

from __future__ import annotations

import struct
from typing import Final

HEAD_BYTES = 4096  # all of a superblock that is looked at
_EXT_AT = 1024
_EXT_MAGIC = b"\x53\xef"

# By their bits. Features of the first group every GRUB takes that is still in use; of the second, some.
_EXT: Final = (
    "compression",
    "filetype",
    "needs_recovery",
    "journal_dev",
    "meta_bg",
    "",
    "extents",
    "64bit",
    "mmp",
    "flex_bg",
    "ea_inode",
    "",
    "dirdata",
    "metadata_csum_seed",
    "large_dir",
    "inline_data",
    "encrypt",
    "casefold",
)
_EXT_OLD: Final = {"filetype", "needs_recovery", "meta_bg", "extents", "64bit", "flex_bg", "mmp"}
_EXT_RECENT: Final = {"metadata_csum_seed", "large_dir", "encrypt"}
_XFS: Final = (
    "ftype",
    "sparse inodes",
    "meta_uuid",
    "bigtime",
    "needsrepair",
    "nrext64",
    "exchange",
    "parent",
    "metadir",
    "zoned",
    "zone gaps",
)
_XFS_OLD: Final = {"ftype", "sparse inodes", "meta_uuid"}
_XFS_RECENT: Final = {"bigtime", "needsrepair", "nrext64"}
_BIGALLOC = 1 << 9  # of ext4's ro_compat: whoever only reads must know it all the same


def features(head: bytes) -> tuple[str, tuple[str, ...]] | None:
    """What a volume that begins so is (`ext4`, `XFS`), and its features that a reader may not take: those that have
    become known last, if it has such. None where it is neither."""
    if len(head) >= _EXT_AT + 104 and head[_EXT_AT + 56 : _EXT_AT + 58] == _EXT_MAGIC:
        (incompatible, read_only) = struct.unpack_from("<II", head, _EXT_AT + 96)
        named = _named(incompatible, _EXT) + (["bigalloc"] if read_only & _BIGALLOC else [])
        return "ext4", _newest(named, _EXT_OLD, _EXT_RECENT)
    if len(head) >= 0xDC and head[:4] == b"XFSB":
        version = struct.unpack_from(">H", head, 100)[0] & 0xF
        if version != 5:
            return "XFS", (f"version {version}",)
        return "XFS", _newest(_named(struct.unpack_from(">I", head, 0xD8)[0], _XFS), _XFS_OLD, _XFS_RECENT)
    return None


def _named(bits: int, names: tuple[str, ...]) -> list[str]:
    return [
        (names[bit] if bit < len(names) else "") or f"feature 0x{1 << bit:x}" for bit in range(32) if bits & 1 << bit
    ]


def _newest(named: list[str], old: set[str], recent: set[str]) -> tuple[str, ...]:
    newer = [each for each in named if each not in old and each not in recent]
    return tuple(newer or [each for each in named if each in recent])
