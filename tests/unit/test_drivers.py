"""Whether a kernel has EC2's drivers, by the lists and initramfs that systems have; a list not read says nothing."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import subprocess
from collections.abc import Callable
from functools import partial
from typing import BinaryIO, cast

import pytest
import zstandard

from rigs.guests.hostileguests import cpio, lz4_legacy
from rigs.guests.memoryfiles import MemoryFiles
from warmspare.errors import FormatError
from warmspare.recover.readiness.answers import ABSENT, Unknown
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.kernels import drivers, initramfs, packings
from warmspare.recover.readiness.kernels.drivers import Drivers, Packed

V = "6.1.0-9-amd64"
HOME = f"/usr/lib/modules/{V}"
NVME, ENA = "kernel/drivers/nvme/host/nvme.ko", "kernel/drivers/net/ethernet/amazon/ena/ena.ko"
BUILTIN = f"{HOME}/modules.builtin"
DEP = f"{HOME}/modules.dep"


def lzop(data: bytes) -> bytes:
    return subprocess.run(["busybox", "lzop", "-c"], input=data, capture_output=True, check=True).stdout


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "lz4": lz4_legacy,
    "lzop": lzop,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd, long": lambda data: zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(data),
}
ENDING = [each for each in PACKINGS if each != "lz4"]  # whose end is told without a mark behind it


def names(data: bytes) -> list[str]:
    return list(initramfs.names(io.BytesIO(data), "x"))


def before_error(data: bytes) -> list[str]:
    found = []
    with pytest.raises(FormatError):
        for name in initramfs.names(io.BytesIO(data), "x"):
            found.append(name)
    return found


def packed(*members: str, pack: Callable[[bytes], bytes] = gzip.compress) -> Packed:
    return Packed("/initrd", partial(_open, pack(cpio([name.encode() for name in members]))))


class _open:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __enter__(self) -> BinaryIO:
        return cast(BinaryIO, io.BytesIO(self._data))

    def __exit__(self, *_: object) -> None:
        pass


def look(tree: dict[str, str | Unknown], *initrds: Packed, version: str = V) -> Drivers:
    files: GuestFiles = MemoryFiles(tree)
    return drivers.look(files, version, initrds)


# what an initramfs names


@pytest.mark.program
@pytest.mark.parametrize("first", ENDING)
@pytest.mark.parametrize("second", PACKINGS)
def test_segments_stand_behind_one_another_with_zeros_or_without(first: str, second: str) -> None:
    one, two = PACKINGS[first](cpio([b"a"], b"x" * 300_000)), PACKINGS[second](cpio([b"b", b"c"]))
    for between in (b"", bytes(4), bytes(512)):
        gap = between + bytes(-len(one + between) % 4)  # what is plain stands at a multiple of 4
        assert names(one + gap + two + bytes(1024)) == ["a", "b", "c"]


def test_behind_lz4_a_length_of_zero_is_the_end() -> None:
    one = lz4_legacy(cpio([b"a"])) + bytes(4)
    assert names(one + bytes(-len(one) % 4) + cpio([b"b"])) == ["a", "b"]


def test_names_before_an_error_count() -> None:
    whole = gzip.compress(cpio([b"a"]))
    whole += bytes(-len(whole) % 4)
    assert before_error(whole + b"junk") == ["a"]
    assert before_error(whole + b"\x28\xb5\x2f\xfd" + b"junk") == ["a"]
    assert before_error(gzip.compress(cpio([b"a"]) + b"junk")) == ["a"]
    cut = zstandard.ZstdCompressor().compress(cpio([b"a"]) + cpio([b"b"], random.Random(1).randbytes(400_000)))
    assert before_error(cut[:-90_000]) == ["a"]
    # An archive in the middle of which its packing ends: the kernel stops there, too.
    half = cpio([b"a"], b"x" * 4000)[:2000]
    assert before_error(gzip.compress(cpio([b"b"]) + half) + gzip.compress(half)) == ["b"]


def test_an_archive_stands_at_a_multiple_of_four() -> None:
    assert before_error(bytes(3) + cpio([b"a"])) == []
    assert names(bytes(8) + cpio([b"a"])) == ["a"]


def test_the_last_archive_needs_no_padding() -> None:
    assert names(cpio([b"a"]).rstrip(b"\0") + b"\0") == ["a"]


def test_what_linux_does_not_unpack_is_said_with_its_place() -> None:
    for data, place in ((b"\x04\x22\x4d\x18" + bytes(99), 0), (cpio([b"a"]) + b"070707", len(cpio([b"a"])))):
        with pytest.raises(FormatError, match=f"at byte {place} of the initramfs is nothing that Linux unpacks"):
            names(data)


@pytest.mark.program
def test_lzop_of_any_content() -> None:
    rng = random.Random(5)
    for size in (0, 1, 3, 4, 17, 18, 300, 70_000, 600_000):
        data = bytes(rng.choice(b"abcd") for _ in range(size)) + bytes(size * 2) + rng.randbytes(size)
        file = packings.Forwards(cast(BinaryIO, io.BytesIO(lzop(data) + b"tail")), 1 << 30, "")
        opened = packings.opened(file)
        assert opened is not None and opened.read() == data and file.read(9) == b"tail"


@pytest.mark.program
def test_damaged_lzop_and_zstd_never_swell_nor_fail_otherwise() -> None:
    rng = random.Random(6)
    plain = cpio([b"a"], bytes(50_000) + rng.randbytes(2000))
    whole = [PACKINGS[each](plain) for each in ("lzop", "zstd", "zstd, long")]
    for _ in range(400):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(min(len(data), rng.choice([40, 4000])))] = rng.randrange(256)
        try:
            assert len(names(bytes(data[: rng.randrange(1, len(data) + 9)]))) < 10
        except FormatError as error:
            assert "initramfs" in error.what


# where a driver is


def test_drivers_that_are_built_in() -> None:
    has = look({BUILTIN: f"{NVME}\n{ENA}\n", DEP: ""})
    assert has.nvme.builtin == has.nvme.early == has.ena.ever == BUILTIN
    assert has.nvme.initramfs is ABSENT and has.nvme.modules is ABSENT


def test_the_root_s_module_of_nvme_is_no_use_before_the_root_is_there() -> None:
    has = look({BUILTIN: "", DEP: f"{NVME}.xz: x\n{ENA}.zst:\n", f"{HOME}/{NVME}.xz": "", f"{HOME}/{ENA}.zst": ""})
    assert (has.nvme.early, has.nvme.modules) == (ABSENT, f"{HOME}/{NVME}.xz")
    assert has.ena.ever == f"{HOME}/{ENA}.zst"


@pytest.mark.parametrize("suffix", ["", ".xz", ".zst", ".gz"])
@pytest.mark.parametrize("home", ["lib/modules", "usr/lib/modules"])
def test_modules_in_an_initramfs(suffix: str, home: str) -> None:
    has = look({BUILTIN: "", DEP: ""}, packed(f"{home}/{V}/{NVME}{suffix}", f"{home}/{V}/{ENA}{suffix}"))
    assert has.nvme.early == f"/initrd: {home}/{V}/{NVME}{suffix}" and isinstance(has.ena.initramfs, str)
    assert has.others == ()


@pytest.mark.parametrize(
    "name",
    [
        "lib/modules/{}/kernel/drivers/nvme/host/nvme-core.ko",
        "lib/modules/{}/x/nvme.ko.d/file",
        "usr/nvme.konf",
        "etc/nvme",
        "lib/modules/{}/kernel/drivers/net/arena.ko",
    ],
)
def test_what_only_looks_like_a_driver(name: str) -> None:
    has = look({BUILTIN: "", DEP: ""}, packed(name.format(V)))
    assert has.nvme.early is ABSENT and has.ena.ever is ABSENT


def test_an_initramfs_of_another_kernel() -> None:
    has = look({BUILTIN: "", DEP: ""}, packed(f"lib/modules/5.10.0-1/{NVME}"))
    assert has.nvme.early is ABSENT and has.others == ("5.10.0-1",)


def test_what_can_not_be_read_is_not_known() -> None:
    assert isinstance(look({BUILTIN: ""}).ena.modules, Unknown)  # no modules.dep
    assert isinstance(look({DEP: ""}).nvme.builtin, Unknown)  # no modules.builtin
    bad = Unknown("its XFS has parent")
    has = look({"/usr": bad, "/lib": bad, "/boot": bad}, packed("init"))
    assert "its XFS has parent" in str(has.ena.ever) and "its XFS has parent" in str(has.nvme.early)
    for version in ("../../etc", "", "a" * 500, "6.1/x", "6.1\n"):
        assert isinstance(look({BUILTIN: "", DEP: ""}, version=version).nvme.early, Unknown)


def test_no_modules_of_that_kernel_at_all() -> None:
    has = look({"/lib/modules/5.10/modules.dep": "", "/lib/modules/5.10/modules.builtin": NVME})
    assert has.ena.modules is ABSENT and isinstance(has.ena.ever, Unknown) and isinstance(has.nvme.early, Unknown)


def test_a_module_that_is_listed_and_gone() -> None:
    listed = {BUILTIN: "", DEP: f"{ENA}:\n"}
    assert look({**listed, f"{HOME}/{ENA.rpartition('/')[0]}/": ""}).ena.ever is ABSENT
    assert "whose folder is not there" in str(look({**listed}).ena.ever)
    assert isinstance(look({BUILTIN: "", DEP: f"{ENA}:\n", f"{HOME}/{ENA}": Unknown("bad")}).ena.ever, Unknown)


def test_modules_outside_of_the_usual_folder() -> None:
    for path in ("updates/dkms/ena.ko.zst", "extra/ena.ko", "weak-updates/amazon-ena/ena.ko.xz"):
        assert look({BUILTIN: "", DEP: f"{path}:\n", f"{HOME}/{path}": ""}).ena.ever == f"{HOME}/{path}"


def test_the_kernel_s_configuration_tells_where_the_list_is_missing() -> None:
    said = "CONFIG_BLK_DEV_NVME=y\n# CONFIG_ENA_ETHERNET is not set\n"
    for path in (f"/boot/config-{V}", f"{HOME}/config"):
        has = look({path: said, DEP: ""})
        assert (has.nvme.early, has.ena.ever) == (path, ABSENT)
    assert look({f"/boot/config-{V}": "CONFIG_BLK_DEV_NVME=m\n", DEP: ""}).nvme.early is ABSENT


def test_the_list_of_what_is_built_in_may_be_in_the_initramfs_alone() -> None:
    archive = cpio([f"usr/lib/modules/{V}/modules.builtin".encode()], f"{NVME}\n".encode())
    thin = Unknown("a thin volume")
    has = look({"/usr": thin, "/lib": thin}, Packed("/i", partial(_open, archive)))
    assert has.nvme.early == f"/i: usr/lib/modules/{V}/modules.builtin"
    assert isinstance(has.ena.ever, Unknown)


def test_an_initramfs_that_packs_its_files_once_more() -> None:
    has = look({BUILTIN: "", DEP: ""}, packed("init", "squashfs-root.img"))
    assert "squashfs-root.img" in str(has.nvme.early)


def test_an_initramfs_that_is_missing_or_cut() -> None:
    files = MemoryFiles({"/bad": Unknown("it is damaged")})
    assert look({BUILTIN: "", DEP: ""}, Packed("/initrd", partial(files.stream, "/initrd"))).nvme.early is ABSENT
    bad = look({BUILTIN: "", DEP: ""}, Packed("/bad", partial(files.stream, "/bad")))
    assert bad.nvme.early == bad.ena.ever == Unknown("/bad: it is damaged")
    whole = cpio([f"lib/modules/{V}/{NVME}".encode(), b"more"], b"x" * 999)
    cut = Packed("/initrd", partial(_open, whole[:-600]))
    has = look({BUILTIN: "", DEP: ""}, cut)
    assert isinstance(has.nvme.early, str) and "ends too early" in str(has.ena.ever)


def test_several_initramfs_are_unpacked_all() -> None:
    micro = Packed("/ucode", partial(_open, cpio([b"kernel/x86/microcode/AuthenticAMD.bin"])))
    assert isinstance(look({BUILTIN: "", DEP: ""}, micro, packed(f"lib/modules/{V}/{NVME}")).nvme.early, str)
