"""LVM's labels, metadata and groups: what is there, what a volume needs, and where it begins."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

import pytest

import lvmdisk
from warmspare.recover.readiness.answers import ABSENT, Unknown
from warmspare.recover.readiness.devices import lvmdata, lvmtext
from warmspare.recover.readiness.devices.lvmdata import Label, Physical, find
from warmspare.recover.readiness.devices.lvmgroup import ExtentPlace, Group, group
from warmspare.recover.readiness.devices.lvmtext import NotText, parsed

MIB = 1 << 20
EXTENT = 4 << 20
FIRST = 1 << 20


def read_of(data: bytes) -> lvmdata.Read:
    return lambda offset, count: data[offset : offset + count]


def physical(data: bytes, place: str = "partition 1") -> Physical:
    return Physical(place, read_of(data))


def disk(tmp_path: Path, volumes: dict[str, int], *, missing: bool = False) -> bytes:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    lvmdisk.write(path, 0, 64 * MIB, volumes, missing=missing)
    return path.read_bytes()[: 2 * MIB]


def uuid(letter: str) -> str:
    return lvmdisk._uuid(letter)


def made(volumes: dict[str, str], *, physical: str = "PQ", flags: dict[str, str] | None = None) -> Group:
    """A group with these volumes, each by its segment's text."""
    pvs = "".join(
        f'pv{number} {{ id = "{uuid(letter)}" device = "/dev/x" status = ["ALLOCATABLE"] '
        f"flags = [{(flags or {}).get(letter, '')}] pe_start = 2048 pe_count = 99 }}\n"
        for number, letter in enumerate(physical)
    )
    lvs = "".join(
        f'{name} {{ id = "{uuid(name[0])}" status = ["READ", "VISIBLE"] segment_count = 1\n'
        f"segment1 {{ start_extent = 0 extent_count = 8 {text} }} }}\n"
        for name, text in volumes.items()
    )
    return group(
        parsed(
            f'vg {{ id = "{uuid("G")}" seqno = 7 status = ["READ"] extent_size = 8192\n'
            f"physical_volumes {{ {pvs} }}\nlogical_volumes {{ {lvs} }} }}\n"
        )
    )


def linear(where: str, extent: int = 0) -> str:
    return f'type = "striped" stripe_count = 1 stripes = ["{where}", {extent}]'


def raid(kind: str, name: str, count: int, more: str = "") -> str:
    images = ", ".join(f'"{name}_rmeta_{number}", "{name}_rimage_{number}"' for number in range(count))
    return f'type = "{kind}" device_count = {count} {more} raids = [{images}]'


def images(name: str, homes: list[str]) -> dict[str, str]:
    out = {}
    for number, home in enumerate(homes):
        out[f"{name}_rmeta_{number}"] = linear(home, 20)
        out[f"{name}_rimage_{number}"] = linear(home, 21)
    return out


BOTH, ONE = {uuid("P"), uuid("Q")}, {uuid("P")}


def test_a_physical_volume_says_its_group_and_where_its_volumes_begin(tmp_path: Path) -> None:
    found = find([physical(disk(tmp_path, {"root": 8 * MIB, "swap": 4 * MIB}))])
    (one,) = found.groups
    assert (one.name, sorted(one.volumes), found.unread, found.places) == ("vg", ["root", "swap"], (), {uuid("P"): 0})
    assert one.begins("swap", set(found.places)) == ExtentPlace(uuid("P"), FIRST + 2 * EXTENT, EXTENT)
    assert one.missing(set(found.places)) == [] == one.lacks("root", set(found.places))
    assert one.volumes["root"].uuid == "G" * 32 + "r" * 32


def test_a_part_is_missing_only_for_what_needs_it(tmp_path: Path) -> None:
    (one,) = find([physical(disk(tmp_path, {"root": 8 * MIB}, missing=True))]).groups
    assert one.missing(ONE) == [uuid("Q")] == one.lacks("root", ONE)
    apart = made({"root": linear("pv0"), "data": linear("pv1")})
    assert apart.lacks("root", ONE) == [] and apart.lacks("data", ONE) == [uuid("Q")]
    assert isinstance(apart.begins("data", ONE), Unknown)
    given_up = made({"root": linear("pv0"), "data": linear("pv1")}, flags={"Q": '"MISSING"'})
    assert given_up.lacks("data", BOTH) == [uuid("Q")]


def test_an_empty_group_and_an_unused_volume_are_no_trouble(tmp_path: Path) -> None:
    (one,) = find([physical(disk(tmp_path, {}))]).groups
    assert one.volumes == {} and one.missing(ONE) == []
    unused = bytearray(disk(tmp_path, {}))
    unused[4096:4608] = header(0, 0, 0)
    assert find([physical(bytes(unused))]) == lvmdata.FoundVolumes((), {uuid("P"): 0}, ())


def header(offset: int, count: int, crc: int, *, start: int = 4096, size: int = MIB - 4096, flags: int = 0) -> bytes:
    area = lvmdisk._MAGIC + struct.pack("<IQQ", 1, start, size) + struct.pack("<QQII", offset, count, crc, flags)
    area = area.ljust(508, b"\0")
    return struct.pack("<I", lvmdisk._crc(area)) + area


@pytest.mark.parametrize(
    ("kind", "count", "gone", "lacks"),
    [
        ("raid1", 2, 1, False),
        ("raid1", 2, 2, True),
        ("raid5_ls", 3, 1, False),
        ("raid5_ls", 3, 2, True),
        ("raid6_zr", 5, 2, False),
        ("raid6_zr", 5, 3, True),
        ("raid4", 3, 1, False),
        ("raid0_meta", 2, 1, True),
        ("raid10", 4, 1, False),
        ("raid10", 4, 2, True),
    ],
)
def test_a_raid_comes_up_with_as_few_images_as_it_can(kind: str, count: int, gone: int, lacks: bool) -> None:
    letters = "PQRSTU"[:count]
    one = made(
        {"root": raid(kind, "root", count)} | images("root", [f"pv{at}" for at in range(count)]), physical=letters
    )
    there = {uuid(letter) for letter in letters[gone:]}
    assert one.lacks("root", there) == ([uuid(letter) for letter in letters[:gone]] if lacks else [])


def test_the_copies_of_a_raid10_may_each_lose_another_half() -> None:
    one = made({"root": raid("raid10", "root", 4)} | images("root", [f"pv{at}" for at in range(4)]), physical="PQRS")
    assert one.lacks("root", {uuid("P"), uuid("R")}) == []
    assert one.lacks("root", {uuid("P"), uuid("Q")}) == [uuid("R"), uuid("S")]


def test_a_volume_needs_its_pool_its_cache_and_its_origin() -> None:
    one = made(
        {
            "thin": 'type = "thin" thin_pool = "pool" device_id = 1',
            "pool": 'type = "thin-pool" metadata = "pool_tmeta" pool = "pool_tdata"',
            "pool_tmeta": linear("pv0"),
            "pool_tdata": linear("pv1"),
            "cached": 'type = "cache" cache_pool = "cpool" origin = "cached_corig"',
            "cpool": 'type = "cache-pool" data = "cdata" metadata = "cmeta" cache_mode = "writethrough"',
            "cdata": linear("pv1"),
            "cmeta": linear("pv1"),
            "cached_corig": linear("pv0", 3),
            "snapped": linear("pv0", 5),
            "snap": linear("pv1"),
            "snapshot0": 'type = "snapshot" chunk_size = 8 origin = "snapped" cow_store = "snap"',
            "plain": linear("pv0", 9),
        }
    )
    for name, lacks in (("thin", True), ("cached", True), ("snap", True), ("snapped", False), ("plain", False)):
        assert one.lacks(name, ONE) == ([uuid("Q")] if lacks else []), name
    assert "thin" in str(one.begins("thin", BOTH)) and "snapshot" in str(one.begins("snap", BOTH))
    assert one.begins("cached", BOTH) == ExtentPlace(uuid("P"), FIRST + 3 * EXTENT, 8 * EXTENT)


def test_the_beginning_of_a_volume_is_on_any_copy_that_is_there() -> None:
    mirrored = made({"root": raid("raid1", "root", 2)} | images("root", ["pv0", "pv1"]))
    assert mirrored.begins("root", {uuid("Q")}) == ExtentPlace(uuid("Q"), FIRST + 21 * EXTENT, 8 * EXTENT)
    striped = made({"root": 'type = "striped" stripe_count = 2 stripe_size = 128 stripes = ["pv1", 2, "pv0", 0]'})
    assert striped.begins("root", BOTH) == ExtentPlace(uuid("Q"), FIRST + 2 * EXTENT, 64 << 10)
    parity = made({"root": raid("raid5_rs", "root", 3)} | images("root", ["pv0", "pv1", "pv2"]), physical="PQR")
    assert isinstance(parity.begins("root", BOTH), Unknown)
    moving = made({"root": raid("raid1", "root", 2, "data_offset = 4096")} | images("root", ["pv0", "pv1"]))
    assert isinstance(moving.begins("root", BOTH), Unknown)


def test_metadata_that_goes_round_its_area_or_stands_in_a_second_one_is_read(tmp_path: Path) -> None:
    data = bytearray(disk(tmp_path, {"root": 8 * MIB}))
    offset, count, crc, _ = struct.unpack_from("<QQII", data, 4096 + 40)
    text = bytes(data[4096 + offset : 4096 + offset + count])
    end = MIB - 4096
    data[4096 : 4096 + offset + count] = bytes(offset + count)
    data[4096:4608] = header(end - 100, count, crc)
    data[MIB - 100 : MIB] = text[:100]
    data[4096 + 512 : 4096 + 512 + count - 100] = text[100:]
    (one,) = find([physical(bytes(data))]).groups
    assert one.name == "vg"


def test_of_a_groups_metadata_the_newest_counts_and_a_damaged_copy_is_no_loss(tmp_path: Path) -> None:
    sound = disk(tmp_path, {"root": 8 * MIB}, missing=True)
    other = bytearray(sound)
    at = other.index(b"seqno = 1")
    other[at : at + 9] = b"seqno = 9"
    offset, count, _, _ = struct.unpack_from("<QQII", other, 4096 + 40)
    text = bytes(other[4096 + offset : 4096 + offset + count]).replace(b'"Test"', b'"test"')
    other[4096:4608] = header(offset, count, lvmdisk._crc(text))
    (one,) = find([physical(sound), physical(bytes(other), "partition 2")]).groups
    assert one.sequence == 9
    damaged = bytearray(sound)
    damaged[4096 + 600] ^= 1
    found = find([physical(bytes(damaged)), physical(sound, "partition 2")])
    assert len(found.groups) == 1 and found.unread == ()
    alone = find([physical(bytes(damaged))])
    assert alone.groups == () and "partition 1: its metadata is damaged" in alone.unread


@pytest.mark.parametrize("at", [512, 512 + 40, 4096 + 8, 4096 + 44])
def test_what_checksums_deny_is_not_known(tmp_path: Path, at: int) -> None:
    data = bytearray(disk(tmp_path, {"root": 8 * MIB}))
    data[at] ^= 0xFF
    found = find([physical(bytes(data))])
    assert found.groups == () and len(found.unread) == 1


def test_a_volume_that_can_not_be_read_is_not_known() -> None:
    def refuse(offset: int, count: int) -> bytes:
        raise OSError(5, "Input/output error")

    assert find([Physical("partition 3", refuse)]).unread == ("partition 3: it can't be read: Input/output error",)
    assert lvmdata.label(read_of(bytes(4096))) is ABSENT
    far = Label(uuid("P"), ((1 << 50, 1 << 20),))
    assert isinstance(lvmdata.metadata(read_of(bytes(4096)), far), Unknown)


def test_metadata_without_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    big = header(512, lvmdata.MAX_TEXT_BYTES + 1, 0, size=1 << 40)
    assert "larger than" in str(lvmdata.metadata(read_of(bytes(4096) + big), Label("x", ((4096, 1 << 40),))))
    many = find([physical(bytes(4096))] * (lvmdata.MAX_VOLUMES + 1))
    assert "more than" in many.unread[-1] and len(many.unread) == lvmdata.MAX_VOLUMES + 1
    circle = made({"a": 'type = "cache" origin = "b"', "b": 'type = "cache" origin = "a"', "c": linear("pv1")})
    assert isinstance(circle.lacks("a", ONE), Unknown) and isinstance(circle.begins("a", ONE), Unknown)
    nowhere = made({"a": linear("pv9")})
    assert isinstance(nowhere.lacks("a", ONE), Unknown) and isinstance(nowhere.begins("a", BOTH), Unknown)
    with pytest.raises(NotText):
        parsed("a {" * (lvmtext.MAX_DEPTH + 2) + "}" * (lvmtext.MAX_DEPTH + 2))
    monkeypatch.setattr(lvmtext, "MAX_TOKENS", 10)
    with pytest.raises(NotText):
        parsed("a = [" + "1, " * 20 + "]")


@pytest.mark.parametrize("text", ["a = ", "a { b = 1", "a }", '"', 'a = "x', "a = [1, ", "= 1", "a = {", "[", "\\"])
def test_what_is_no_text_of_lvms_is_refused(text: str) -> None:
    with pytest.raises(NotText):
        parsed(text)


def test_lvms_text_is_read_as_it_is_written() -> None:
    found = parsed(
        '# c\na { b = 1 # c\n c = "x \\"y\\" # z"\nd = ["1", 2,]\n e = [] f = -3 }\ndevices/dir = \'/dev\'\na { g = 4 }'
    )
    inner = {"b": 1, "c": 'x "y" # z', "d": ["1", 2], "e": [], "f": -3, "g": 4}
    assert found == {"a": inner, "devices": {"dir": "/dev"}}
    with pytest.raises(NotText):
        group(parsed("contents = 1"))


def test_mutated_metadata_harms_nobody(tmp_path: Path) -> None:
    """Whatever stands there, with checksums that are right: all questions have answers."""
    data = disk(tmp_path, {"root": 8 * MIB, "swap": 4 * MIB}, missing=True)
    offset, count, _, _ = struct.unpack_from("<QQII", data, 4096 + 40)
    text = data[4096 + offset : 4096 + offset + count]
    words = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"=",
        b'"',
        b"\\",
        b"-1",
        b"99999999999999999999",
        b"pv0",
        b"root",
        b"\xff",
        b"#",
        b"\n",
        b'"striped"',
        b'"raid1"',
        b'"thin"',
        b'"cache"',
        b'origin = "root"',
    ]
    groups = 0
    for seed in range(400):
        random = Random(seed)
        changed = bytearray(text)
        for _ in range(random.randrange(1, 4)):
            at = random.randrange(len(changed))
            changed[at : at + random.choice([0, 1, 5, 40])] = random.choice(words)
        image = bytearray(data)
        image[4608 : 4608 + len(changed)] = changed
        image[4096:4608] = header(512, len(changed), lvmdisk._crc(bytes(changed)))
        found = find([physical(bytes(image[: 128 << 10]))])
        for one in found.groups:
            groups += 1
            for name in one.volumes:
                one.lacks(name, set(found.places))
                one.begins(name, set(found.places))
        assert found.groups or found.unread
    assert groups > 20
