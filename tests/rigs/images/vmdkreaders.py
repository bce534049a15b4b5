"""Reads VMDKs by programs that are not ours, in a process of their own; a line of JSON for each reader and file.

`python vmdkreaders.py FILE...`. libvmdk is LGPL, dissect.hypervisor AGPL: this script is all that uses them.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Read:
    """What a reader says of a VMDK. extents: of the descriptor: (file name, bytes)."""

    reader: str
    size: int
    sha256: str
    content: str
    extents: list[tuple[str, int]]
    descriptor: dict[str, str]


def read_by_all(*files: Path) -> dict[Path, list[Read]]:
    """Each file by each reader."""
    command = [sys.executable, __file__, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    read: dict[Path, list[Read]] = {file: [] for file in files}
    for line in done.stdout.splitlines():
        said = json.loads(line)
        extents = [(name, size) for name, size in said.pop("extents")]
        read[Path(said.pop("file"))].append(Read(**said, extents=extents))
    return read


def _libvmdk(file: str) -> dict[str, Any]:
    import pyvmdk

    handle = pyvmdk.handle()
    handle.open(file)
    handle.open_extent_data_files()
    extents = [handle.get_extent_descriptor(number) for number in range(handle.get_number_of_extents())]
    said = {
        "size": handle.get_media_size(),
        "sha256": _hashed(handle, handle.get_media_size()),
        "content": f"{handle.get_content_identifier():08x}",
        "extents": [[one.filename, one.size] for one in extents],
        "descriptor": {},
    }
    handle.close()
    return said


class _Sectors:
    """dissect's reader by sectors: by bytes it reads ahead in 8 KiB, beyond the end of disks of other sizes
    (findings/dissect-vmdk-last-bytes.sh)."""

    def __init__(self, disk: Any) -> None:
        self._disk, self._at = disk, 0

    def read(self, size: int) -> bytes:
        data: bytes = self._disk.read_sectors(self._at, size // 512)
        self._at += size // 512
        return data


def _dissect(file: str) -> dict[str, Any]:
    from dissect.hypervisor.disk.vmdk import VMDK

    disk = VMDK(Path(file))
    (part,) = disk.disks
    told = part.descriptor
    return {
        "size": disk.size,
        "sha256": _hashed(_Sectors(disk), disk.size),
        "content": told.attr["CID"],
        "extents": [[one.filename, one.sectors * 512] for one in told.extents],
        "descriptor": {**told.attr, **told.ddb},
    }


def _hashed(source: Any, size: int) -> str:
    digest, left = hashlib.sha256(), size
    while left:
        data = source.read(min(left, 1 << 20))
        assert data
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()


if __name__ == "__main__":
    for given in sys.argv[1:]:
        for how in (_libvmdk, _dissect):
            print(json.dumps({"file": given, "reader": how.__name__[1:], **how(given)}))
