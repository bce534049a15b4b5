"""VMDKs that an export writes, read by readers that are not ours: the bytes, the capacity, what the descriptor says."""

from __future__ import annotations

import asyncio
import hashlib
import random
import struct
from pathlib import Path

import pytest

from rig import KIB, MIB
from rigs.images.vmdkreaders import Read, read_by_all
from warmspare.errors import IntegrityError
from warmspare.recover.failback import convert
from warmspare.recover.failback.vmdk import describe

SECTOR, GIB = 512, 1 << 30
CAPACITIES = (
    SECTOR,
    4 * KIB,
    8 * KIB,
    8 * KIB + SECTOR,
    64 * KIB - SECTOR,
    64 * KIB,
    64 * KIB + SECTOR,
    64 * KIB + 8 * KIB,
    5 * MIB + 12 * KIB,
    32 * MIB - SECTOR,
    32 * MIB,
    32 * MIB + SECTOR,
    33 * MIB + 7 * SECTOR,
    64 * MIB,
)


def disk(path: Path, capacity: int, seed: int) -> Path:
    """Mostly holes; its first and last bytes are data."""
    rng = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(capacity)
        for at in (0, *(rng.randrange(capacity) for _ in range(6)), max(0, capacity - 700)):
            file.seek(at)
            file.write(rng.randbytes(min(rng.randrange(1, 150 * KIB), capacity - at)))
        file.seek(capacity - 1)
        file.write(b"\xa5")
    return path


def converted(raw: Path, home: Path, name: str) -> Path:
    """As an export does it: under another name first."""
    part = home / f"{name}.part"
    asyncio.run(convert.to_vmdk(raw, part, name))
    asyncio.run(convert.demand_same(raw, part))
    return part.rename(home / name)


def demand(raw: Path, vmdk: Path, reads: list[Read]) -> None:
    data = raw.read_bytes()
    data = data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")
    assert [read.reader for read in reads] == ["libvmdk", "dissect"]
    for read in reads:
        assert read.size == len(data) and read.extents == [(vmdk.name, len(data))], read
        assert read.sha256 == hashlib.sha256(data).hexdigest(), read
    assert reads[0].content == reads[1].content


def test_every_capacity_reads_back(tmp_path: Path) -> None:
    """Multiples of a sector, of 4, 8 and 64 KiB and of what a grain table covers, and what lies beside them."""
    raws = {capacity: disk(tmp_path / f"{capacity}.raw", capacity, capacity) for capacity in CAPACITIES}
    made = {capacity: converted(raw, tmp_path, f"d{capacity}.vmdk") for capacity, raw in raws.items()}
    reads = read_by_all(*made.values())
    for capacity, vmdk in made.items():
        demand(raws[capacity], vmdk, reads[vmdk])
    contents = {read[0].content for read in reads.values()}
    assert len(contents) == len(CAPACITIES) and not contents & {"ffffffff", "fffffffe"}


def test_a_disk_of_no_whole_sectors_ends_with_zeros(tmp_path: Path) -> None:
    raw = disk(tmp_path / "odd.raw", 70_001, 1)
    vmdk = converted(raw, tmp_path, "odd.vmdk")
    demand(raw, vmdk, read_by_all(vmdk)[vmdk])


@pytest.mark.parametrize("name", ["web 1.vmdk", "Grüße 日本.vmdk", "50%.vmdk", 'a"b.vmdk', "x" * 195 + ".vmdk"])
def test_names(tmp_path: Path, name: str) -> None:
    raw = disk(tmp_path / "d.raw", 64 * KIB, 3)
    vmdk = converted(raw, tmp_path, name)
    demand(raw, vmdk, read_by_all(vmdk)[vmdk])


@pytest.mark.parametrize(
    ("capacity", "geometry"),
    [
        (64 * KIB, (1, 64, 32)),
        (GIB - SECTOR, (1023, 64, 32)),
        (GIB, (512, 128, 32)),
        (2 * GIB, (261, 255, 63)),
        (40 * GIB, (5221, 255, 63)),
        (3 << 40, (65535, 255, 63)),
    ],
)
def test_the_descriptor_is_as_vmware_writes_it(tmp_path: Path, capacity: int, geometry: tuple[int, int, int]) -> None:
    """The disks are empty, and the file of one that is so large is not read."""
    raw = tmp_path / "d.raw"
    with raw.open("wb") as file:
        file.truncate(capacity)
    asyncio.run(convert.to_vmdk(raw, tmp_path / "d.part", "d.vmdk"))
    text = descriptor(tmp_path / "d.part")
    said = dict(line.replace(" = ", "=").split("=", 1) for line in text.splitlines() if "=" in line)
    assert text.startswith("# Disk DescriptorFile\n") and f'\nRW {capacity // SECTOR} SPARSE "d.vmdk"\n' in text
    cylinders, heads, sectors = geometry
    assert said.pop("ddb.longContentID").strip('"')[-8:] == said.pop("CID")
    assert said == {
        "version": "1",
        "encoding": '"UTF-8"',
        "parentCID": "ffffffff",
        "createType": '"streamOptimized"',
        "ddb.adapterType": '"lsilogic"',
        "ddb.geometry.cylinders": f'"{cylinders}"',
        "ddb.geometry.heads": f'"{heads}"',
        "ddb.geometry.sectors": f'"{sectors}"',
        "ddb.toolsVersion": '"2147483647"',
        "ddb.virtualHWVersion": '"4"',
    }


def descriptor(vmdk: Path) -> str:
    """As it stands in the file, by VMware's header."""
    with vmdk.open("rb") as file:
        at, size = struct.unpack_from("<QQ", file.read(SECTOR), 28)
        file.seek(at * SECTOR)
        text, _, rest = file.read(size * SECTOR).partition(b"\0")
    assert not rest.strip(b"\0")
    return text.decode()


@pytest.mark.parametrize("what", ["monolithicSparse", "monolithicFlat", "raw", "short", "empty"])
def test_what_is_no_such_vmdk_is_left_alone(tmp_path: Path, what: str) -> None:
    path = disk(tmp_path / "d", 64 * KIB, 4)
    if what.startswith("mono"):
        asyncio.run(convert._run("convert", "-O", "vmdk", "-o", f"subformat={what}", path, made := tmp_path / "m.vmdk"))
        path = made
    elif what in ("short", "empty"):
        path.write_bytes(b"KDMV\3\0\0\0"[: 8 * (what == "short")])
    before = path.read_bytes()
    with pytest.raises(IntegrityError):
        describe(path, "x.vmdk")
    assert path.read_bytes() == before
