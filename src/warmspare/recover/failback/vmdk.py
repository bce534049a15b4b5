"""What a stream-optimised VMDK says of itself: its embedded descriptor, as VMware's own tools write it; refuses any
other kind of VMDK, and leaves the disk's bytes alone.

qemu-img names the file as it writes it, puts the disk at an IDE controller and gives small disks no cylinders. Here the
text says what the file is called in the end, in which encoding, and a geometry that a SCSI disk of that size has.
VMware documents: "Virtual Disk Format 5.0", "Recreating a missing virtual machine disk descriptor file".
"""

from __future__ import annotations

import os
import secrets
import struct
from pathlib import Path
from typing import Final

from warmspare.errors import IntegrityError, by_hand
from warmspare.outside.regular_files import open_regular
from warmspare.state.local_files import local_io, pwrite_all

WHAT = "the VMDK"
SECTOR_BYTES: Final = 512
_HEADER: Final = struct.Struct("<4sIIQQQQ")  # magic, version, flags, capacity, grain, the descriptor's place and size
_COMPRESSED: Final = 1 << 16
_GIB_SECTORS: Final = (1 << 30) // SECTOR_BYTES
_MOST_CYLINDERS: Final = 65535
_MOST_SECTORS: Final = 128  # of the room for the descriptor that is believed
_RESERVED: Final = 0xFFFFFFFE  # content IDs from here on mean something else


def describe(path: Path, name: str) -> None:
    """Give the file a descriptor that calls it `name`, durably. IntegrityError if it is no such VMDK; StoreError."""
    with local_io(WHAT, path):
        fd = open_regular(path, os.O_RDWR)
        try:
            capacity, at, room = _read_header(os.pread(fd, SECTOR_BYTES, 0), path)
            text = _text(name, capacity, secrets.randbelow(_RESERVED)).encode()
            assert len(text) < room, "a name has 200 bytes at most"
            pwrite_all(fd, text.ljust(room, b"\0"), at)
            os.fsync(fd)
        finally:
            os.close(fd)


def _read_header(header: bytes, path: Path) -> tuple[int, int, int]:
    """(capacity in sectors; where the descriptor stands, and how much room it has, in bytes)."""
    if len(header) == SECTOR_BYTES:
        magic, version, flags, capacity, _, at, room = _HEADER.unpack_from(header)
        if magic == b"KDMV" and version == 3 and flags & _COMPRESSED and at > 0 and 0 < room <= _MOST_SECTORS:
            return capacity, at * SECTOR_BYTES, room * SECTOR_BYTES
    raise IntegrityError(
        "qemu-img wrote something else than a stream-optimised VMDK",
        where=str(path),
        hint=by_hand("run again; if it stays, use another version of qemu-utils, or give --format raw"),
    )


def _text(name: str, capacity: int, content: int) -> str:
    """capacity: in sectors. content: a content ID; the long one ends with it."""
    heads, sectors = _geometry(capacity)
    cylinders = min(max(1, capacity // (heads * sectors)), _MOST_CYLINDERS)
    return f"""# Disk DescriptorFile
version=1
encoding="UTF-8"
CID={content:08x}
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RW {capacity} SPARSE "{name}"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "{heads}"
ddb.geometry.sectors = "{sectors}"
ddb.longContentID = "{secrets.token_hex(12)}{content:08x}"
ddb.toolsVersion = "2147483647"
ddb.virtualHWVersion = "4"
"""


def _geometry(capacity: int) -> tuple[int, int]:
    """(heads, sectors of a track) that VMware gives a SCSI disk."""
    if capacity < _GIB_SECTORS:
        return 64, 32
    if capacity < 2 * _GIB_SECTORS:
        return 128, 32
    return 255, 63
