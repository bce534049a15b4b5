"""Guests whose files hurt whoever reads them: each kind of fault by several members, a campaign of mutated file trees,
and an end at once when one is asked for."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rigs.guests import hostileguests
from rigs.guests.hostileguests import DISK_BYTES, MIB, UUID, VERSION, Tree, build, cpio, replica, tree
from rigs.paths import TESTS
from warmspare.recover.disks.held_replica import HeldDisk
from warmspare.recover.readiness.boot_kinds import BootFindingKind
from warmspare.recover.readiness.check import Ready, look
from warmspare.recover.readiness.readiness_report import MOST_OF_A_KIND

K = BootFindingKind
D = K.DEFAULT_UNKNOWN


def looked(disk: Path) -> Ready:
    """What is found; and that whatever was found is short."""
    fd = os.open(disk, os.O_RDONLY)
    try:
        ready = asyncio.run(look([HeldDisk(disk.name, disk, disk.stat().st_size, fd)], None))
    finally:
        os.close(fd)
    assert all(len(each.place) <= 200 and len(each.found) <= 200 for each in ready.findings), ready
    assert not any("a fault of warmspare" in each.found for each in ready.findings), ready
    return ready


def guest(tmp_path: Path, **changed: bytes) -> Path:
    """A disk with a sound guest, and these files besides; a name's two underscores are a slash."""
    files = {**_sound(), **{name.replace("__", "/").encode(): data for name, data in changed.items()}}
    build(tmp_path / "d.raw", tmp_path, files)
    return tmp_path / "d.raw"


def _sound() -> Tree:
    rng = random.Random(0)
    files = tree(rng)
    while b"boot/grub/grub.cfg" not in files:
        files = tree(rng)
    return files


def _grub(line: str, initrd: str = "/boot/initrd") -> bytes:
    kernel = f"linux /boot/vmlinuz-{VERSION} root=UUID={UUID} console=ttyS0 {line}"
    return f"set timeout=1\nload_env\nmenuentry 'x' {{\n {kernel}\n initrd {initrd}\n}}\n".encode()


def test_a_sound_one_is_sound(tmp_path: Path) -> None:
    assert looked(guest(tmp_path)).findings == []


_BIG = b"# GRUB Environment Block\na=" + b"x" * 60_000 + b"\n"


@pytest.mark.parametrize(
    ("changed", "kind", "place", "why"),
    [
        ({"boot__grub__grubenv": _BIG, "boot__grub__grub.cfg": _grub("$a" * 1000)}, D, "grub.cfg", "65536 char"),
        ({"boot__grub__grubenv": _BIG, "boot__grub__grub.cfg": _grub("", "$a" * 9)}, D, "grub.cfg", "65536 char"),
        ({"boot__grub__grubenv": _BIG * 20}, D, "grub.cfg", "grubenv is larger than 1024 KiB"),
        ({"boot__grub__grub.cfg": b"#" * (2 << 20)}, D, "grub.cfg", "grub.cfg is larger than 1024 KiB"),
        ({"boot__grub__grub.cfg": _grub("", " ".join(f"/i{n}" for n in range(17)))}, D, "grub.cfg", "16 initramfs"),
        ({"etc__fstab": b"/dev/vda1 / ext4\n" * 100_000}, K.NOT_JUDGED, "/etc/fstab", "larger than 1024 KiB"),
        ({"etc__fstab": b"a b c\n" * 20_000}, K.NOT_JUDGED, "/etc/fstab", "what follows line 10000 is not judged"),
    ],
    ids=["variables", "variables-of-initrds", "environment", "configuration", "initrds", "fstab", "fstab-lines"],
)
def test_what_grows_beyond_all_bounds_is_a_finding(
    changed: dict[str, bytes], kind: BootFindingKind, place: str, why: str, tmp_path: Path
) -> None:
    (only,) = [each for each in looked(guest(tmp_path, **changed)).findings if each.kind is kind]
    assert place in only.place and why in only.found and not only.known


def test_findings_are_counted_beyond_the_first(tmp_path: Path) -> None:
    lines = b"".join(b"/dev/sdz%d /m%d ext4 defaults 0 0\n" % (n, n) for n in range(9000))
    found = [each for each in looked(guest(tmp_path, etc__fstab=lines)).findings if each.kind is K.FSTAB_BY_NAME]
    assert len(found) == MOST_OF_A_KIND + 1 and found[-1].found == f"{9000 - MOST_OF_A_KIND} more of this kind"


def test_names_and_numbers_of_entries(tmp_path: Path) -> None:
    """Digits that int() does not take, more of them than it takes, and entries whose reading takes minutes."""
    names = ["1²2", "٣", "9" * 240, "\x1b[31m1", "1-", "-"]
    odd = {f"boot__loader__entries__{name}.conf": b"linux /v\n" for name in names}
    odd["boot__grub__grub.cfg"] = b"blscfg\n"
    assert K.NOT_JUDGED not in {each.kind for each in looked(guest(tmp_path, **odd)).findings}
    many = {f"boot__loader__entries__e{n}.conf": b"title x\n" for n in range(500)}
    many["boot__grub__grub.cfg"] = b"blscfg\n"
    (only,) = [each for each in looked(guest(tmp_path, **many)).findings if each.kind is D]
    assert only.found == "/boot/loader/entries has more than 64 entries"


@pytest.mark.parametrize(
    "initrd",
    [
        hostileguests.alone(cpio([b"a"]), 1 << 31),
        cpio([b"a"], b"x" * 99, b"-0000001"),
        b"\x1f\x8b\x08" + b"\0" * 7 + b"x" * 99,
    ],
    ids=["dictionary", "negative-size", "no-deflate"],
)
def test_an_initramfs_that_hurts(initrd: bytes, tmp_path: Path) -> None:
    assert {each.kind for each in looked(guest(tmp_path, boot__initrd=initrd)).findings} == {K.INITRAMFS_UNREAD}


@pytest.mark.parametrize("packing", ["zstd", "xz"])
def test_the_largest_window_that_linux_takes_is_no_finding(packing: str, tmp_path: Path) -> None:
    """`zstd --long` and `--ultra -22` state 128 MiB of whatever they pack."""
    archive = cpio([hostileguests.NVME], bytes(160 * MIB))
    if packing == "zstd":
        parameters = hostileguests.zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
        stream = hostileguests.zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        packed = stream.compress(archive) + stream.flush()
    else:
        filters = [{"id": hostileguests.lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
        packed = hostileguests.lzma.compress(archive, check=hostileguests.lzma.CHECK_CRC32, filters=filters)
    assert looked(guest(tmp_path, boot__initrd=packed)).findings == []


def gpt(disk: Path, count: int, name: bytes = b"n\0") -> None:
    """A disk whose GPT has so many partitions."""
    kind, room = bytes.fromhex("af3dc60f838472478e793d69d8477de4"), max(count, 128)
    entries = b"".join(
        struct.pack("<16s16sQQQ72s", kind, struct.pack("<QQ", n + 1, 1), 20480 + 2 * n, 20481 + 2 * n, 0, name)
        for n in range(count)
    ).ljust(room * 128, b"\0")
    sectors, last = -(-len(entries) // 512), DISK_BYTES // 512 - 1

    def header(mine: int, other: int, at: int) -> bytes:
        def packed(crc: int) -> bytes:
            return struct.pack(
                "<8sIIIIQQQQ16sQIII",
                b"EFI PART",
                65536,
                92,
                crc,
                0,
                mine,
                other,
                2 + sectors,
                last - sectors - 1,
                b"d" * 16,
                at,
                room,
                128,
                zlib.crc32(entries),
            )

        return packed(zlib.crc32(packed(0)))

    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)
        protective = bytes([0, 0, 2, 0, 0xEE, 255, 255, 255]) + struct.pack("<II", 1, last)
        for at, data in (
            (446, protective),
            (510, b"\x55\xaa"),
            (512, header(1, last, 2)),
            (1024, entries),
            ((last - sectors) * 512, entries),
            (last * 512, header(last, 1, last - sectors)),
        ):
            file.seek(at)
            file.write(data)


def test_partitions_without_number(tmp_path: Path) -> None:
    gpt(tmp_path / "d.raw", 2000)
    ready = looked(tmp_path / "d.raw")
    assert {K.NO_BOOT_CODE, K.NOT_JUDGED} <= {each.kind for each in ready.findings}
    assert any("more than 128 partitions" in each.found for each in ready.findings) and len(ready.seen[0]) < 5000
    # And names that are no text, or look like the end of the list.
    gpt(tmp_path / "d.raw", 128, b'\x00\xd8"\0}\0,\0{\0\x1b\0\n\0')
    assert K.NOT_JUDGED not in {each.kind for each in looked(tmp_path / "d.raw").findings}


def campaign(tmp_path: Path, first: int, count: int) -> list[dict[str, Any]]:
    """What came of the guests of these seeds; each without a traceback, an escape or a bug, small and soon."""
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "xdg")}
    done = subprocess.run(
        [sys.executable, "-m", hostileguests.__name__, tmp_path / "home", str(first), str(count)],
        capture_output=True,
        env={**environment, "PYTHONPATH": str(TESTS)},
        check=False,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(results) == count, done.stderr[-2000:]
    for each in results:
        assert each["code"] in (0, 5) and not each["bug"] and not each["escapes"], each
        assert each["peak_mib"] < 256 and each["cpu_s"] < 60 and each["bytes"] < 1 << 16, each
    return results


def _peak(results: list[dict[str, Any]]) -> int:
    return max(each["peak_mib"] for each in results)


def test_mutated_guests(tmp_path: Path) -> None:
    results = campaign(tmp_path, 0, 25)
    slowest = max(results, key=lambda each: each["seconds"])
    print(f"slowest: seed {slowest['seed']}, {slowest['seconds']} s; peak {_peak(results)} MiB")


@pytest.mark.slow
def test_many_mutated_guests(tmp_path: Path) -> None:
    results = campaign(tmp_path, 1000, 2000)
    slowest = max(results, key=lambda each: each["seconds"])
    print(
        f"slowest: seed {slowest['seed']}, {slowest['seconds']} s; peak {_peak(results)} MiB; "
        f"not judged in full: {sum(not each['judged'] for each in results)}"
    )


def _slow_guests(tmp_path: Path) -> list[Callable[[Path], None]]:
    """Guests that keep a check busy: in a program, and in the process that unpacks."""
    busy = _sound() | {b"boot/initrd": hostileguests.swelling(45 * MIB, 88)}
    return [lambda disk: gpt(disk, 30_000), lambda disk: build(disk, tmp_path, busy)]


def _signalled(tmp_path: Path, moments: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rig, rng = replica(home), random.Random(moments)
    arguments = [sys.executable, "-m", "warmspare", "recover", "check", "--vm", "vm", "--replica", str(rig.replica)]
    for make in _slow_guests(tmp_path):
        make(rig.replica)
        for _ in range(moments):
            number = rng.choice([signal.SIGTERM, signal.SIGINT])
            with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
                readers = _readers(child.pid)
                time.sleep(rng.random() / 4)  # it reads for longer than that
                child.send_signal(number)
                began_s = time.monotonic()
                said, _ = child.communicate(timeout=60)
                print(f"ended {time.monotonic() - began_s:.2f} s after {number.name}")
            assert child.returncode == 130 and b"interrupted" in said and b"Traceback" not in said, said
            assert not any(Path(f"/proc/{pid}").exists() for pid in readers)


def _readers(pid: int) -> list[int]:
    """Wait until the check has a process that reads the guest."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        if children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            return [int(child) for child in children]
        time.sleep(0.01)
    raise AssertionError("nothing reads the guest")


def test_a_signal_ends_it_at_once(tmp_path: Path) -> None:
    _signalled(tmp_path, 2)


@pytest.mark.slow
def test_a_signal_at_many_moments_ends_it_at_once(tmp_path: Path) -> None:
    _signalled(tmp_path, 50)
