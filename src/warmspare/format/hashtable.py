"""The Merkle tree over a disk's block hashes; owns its digests and shape, refuses to hold a table.

docs/format.md, "Hash table". Fixed groups of 256: a leaf covers the hashes of 256 blocks (16 MiB of disk), a
node the digests of 256 children. The height is that of the largest disk, 64 TiB, so that growing a disk
changes no shape; a group of zeros has the digest of 32 zero bytes without being computed. An entry of 16 zero
bytes is a block of zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from warmspare.model.units import BLOCK_BYTES, MAX_CAPACITY_BYTES

ENTRY_BYTES = 16
DIGEST_BYTES = 32
FANOUT = 256
LEAF_BYTES = FANOUT * ENTRY_BYTES
NODE_BYTES = FANOUT * DIGEST_BYTES
LEVELS = 4  # 2**30 blocks -> 2**22 leaves -> 2**14 -> 2**6 -> 1
ZERO_DIGEST = bytes(DIGEST_BYTES)
ZERO_ENTRY = bytes(ENTRY_BYTES)
_ZERO_LEAF = bytes(LEAF_BYTES)
_ZERO_NODE = bytes(NODE_BYTES)

assert FANOUT**LEVELS >= MAX_CAPACITY_BYTES // BLOCK_BYTES


def digest(level: int, data: bytes) -> bytes:
    """Digest of a group: level 1 over a leaf's 4 KiB of hashes, level 2 and up over 8 KiB of digests."""
    if data == (_ZERO_LEAF if level == 1 else _ZERO_NODE):
        return ZERO_DIGEST
    return hashlib.sha256(bytes((level,)) + data).digest()


def root(capacity_bytes: int, top: bytes) -> str:
    """The root that a restore point states: hex SHA-256 over the capacity and the top digest."""
    return hashlib.sha256(b"warmspare hash table 1" + capacity_bytes.to_bytes(8, "little") + top).hexdigest()


def root_of(capacity_bytes: int, entries: Mapping[int, bytes]) -> str:
    """The root of a table given as {block: 16-byte hash}, all else zero. A reference, and for small tables."""
    level = dict(entries)
    size = ENTRY_BYTES
    for number in range(1, LEVELS + 1):
        groups: dict[int, bytearray] = {}
        for index, value in level.items():
            group = groups.setdefault(index // FANOUT, bytearray(FANOUT * size))
            group[index % FANOUT * size : (index % FANOUT + 1) * size] = value
        level = {index: digest(number, bytes(group)) for index, group in groups.items()}
        size = DIGEST_BYTES
    return root(capacity_bytes, level.get(0, ZERO_DIGEST))
