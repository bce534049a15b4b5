"""The ways in by UEFI and by the BIOS, with images that GRUB's own tools make and programs that name themselves."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path

import pytest

from rigs.guests.guesttrees import Machines, Tree
from unit import efiprograms
from warmspare.recover.readiness.answers import ABSENT, Unknown
from warmspare.recover.readiness.guest.entries import Entry, FilePlace
from warmspare.recover.readiness.loaders import biosgrub, efi, efiprogram
from warmspare.recover.readiness.loaders.efi import EfiEnd, EfiWay
from warmspare.recover.readiness.loaders.efiprogram import What
from warmspare.recover.readiness.loaders.grub import core
from warmspare.recover.readiness.loaders.grub import core_image as image
from warmspare.recover.readiness.loaders.grub.memdisk import Memdisk

pytestmark = pytest.mark.program

UNREADABLE = Unknown("this file system can't be read")
U1 = "11111111-94a1-4d0e-a1f5-5b7c3f1f2a31"
EARLY = f"search.fs_uuid {U1} root \nset prefix=($root)/boot/grub\n"
CONFIG = "set timeout=1\nmenuentry a { linux /vmlinuz root=a }\n"
STUB = f"search.fs_uuid {U1} root hd0,gpt2\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
Contents = dict[str, str | bytes | Unknown]


def wide(*words: str) -> bytes:
    return b"\0\0".join(word.encode("utf-16-le") + b"\0\0" for word in words)


SHIM = efiprograms.program(
    {".text": b"UEFI SHIM\n$Version: 15.7 $", ".data": wide("\\fbx64.efi", "\\\\grubx64.efi", "x")}
)
FALLBACK = efiprograms.program({".data": wide("bootx64.csv", "\\EFI\\"), ".sbat": b"sbat,1,\nshim,3,UEFI shim\n"})
MOK = efiprograms.program({".data": wide("MokManager"), ".sbat": b"sbat,1,\nshim,3,UEFI shim\n"})
SYSTEMD = efiprograms.program({".sdmagic": b"#### LoaderInfo: systemd-boot 252.39-1 ####\0"})
WINDOWS = efiprograms.program({".rsrc": wide("OriginalFilename", "bootmgfw.efi")})
CSV = wide("\ufeffshimx64.efi,Red Hat Enterprise Linux,,This is the boot entry\n")[:-2]


def made(path: Path, platform: str, prefix: str, config: str = "", *more: str) -> bytes:
    """An image by GRUB's own tool."""
    early = path.with_suffix(".cfg")
    early.write_text(config)
    with_config = ["-c", early] if config else []
    command = ["grub-mkimage", "-O", platform, "-o", path, *with_config, *more, "-p", prefix, "fat", "normal"]
    subprocess.run(command, check=True, capture_output=True)
    return path.read_bytes()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def grub(home: Path) -> bytes:
    return made(home / "grub.efi", "x86_64-efi", "/EFI/redhat")


def look(files: Contents) -> EfiWay:
    return efi.look(Tree(files, any_case=True))


def entry(way: EfiWay, files: Contents, config: str = CONFIG) -> Entry:
    boot = Tree({"/boot/grub/grub.cfg": config})
    got = way.started(Machines(Tree(files, any_case=True), {f"uuid:{U1}": boot}))
    assert isinstance(got.entry, Entry), (got.entry, got.how)
    return got.entry


def test_shim_and_grub_beside_it(grub: bytes) -> None:
    files: Contents = {"/efi/boot/bootx64.efi": SHIM, "/efi/boot/GRUBX64.EFI": grub, "/EFI/redhat/grub.cfg": STUB}
    way = look(files)
    assert [step.what for step in way.steps] == [What.SHIM, What.GRUB] and way.end is EfiEnd.GRUB
    assert way.core is not None and (way.core.prefix, way.core.folder) == ("/EFI/redhat", "/EFI/BOOT")
    assert entry(way, files).kernel == FilePlace(f"uuid:{U1}", "/vmlinuz")


def test_shim_alone(grub: bytes) -> None:
    files: Contents = {"/EFI/BOOT/BOOTX64.EFI": SHIM, "/EFI/debian/grubx64.efi": grub}
    way = look(files)
    assert (way.end, way.missing) == (EfiEnd.MISSING, "/EFI/BOOT/grubx64.efi")
    assert "/EFI/debian/grubx64.efi" in way.others and "not there" in way.why
    assert way.started(Machines(Tree(files))).entry is ABSENT


def test_shims_fallback_leads_on(grub: bytes) -> None:
    files: Contents = {
        "/EFI/BOOT/BOOTX64.EFI": SHIM,
        "/EFI/BOOT/fbx64.efi": FALLBACK,
        "/EFI/redhat/BOOTX64.CSV": CSV,
        "/EFI/redhat/shimx64.efi": SHIM,
        "/EFI/redhat/grubx64.efi": grub,
        "/EFI/redhat/grub.cfg": STUB,
    }
    way = look(files)
    assert [step.path for step in way.steps] == [
        "/EFI/BOOT/BOOTX64.EFI",
        "/EFI/BOOT/fbx64.efi",
        "/EFI/redhat/shimx64.efi",
        "/EFI/redhat/grubx64.efi",
    ]
    assert entry(way, files).root == "a"
    for gone in ("/EFI/redhat/BOOTX64.CSV", "/EFI/redhat/shimx64.efi", "/EFI/redhat/grubx64.efi"):
        left = {path: data for path, data in files.items() if path != gone}
        assert look(left).end is EfiEnd.MISSING, gone
    other = {**files, "/EFI/fedora/BOOTX64.CSV": CSV}
    assert look(other).end is EfiEnd.UNREAD and "several" in look(other).why


def test_suses_shim_has_other_names(grub: bytes) -> None:
    names = wide("\\fallback.efi", "\\grub.efi", "\\MokManager.efi")
    shim = efiprograms.program({".text": b"UEFI SHIM", ".data": names})
    csv = "shim.efi,sles\n".encode("utf-16-le")
    files: Contents = {
        "/EFI/boot/bootx64.efi": shim,
        "/EFI/boot/fallback.efi": FALLBACK,
        "/EFI/sles/boot.csv": csv,
        "/EFI/sles/shim.efi": shim,
        "/EFI/sles/grub.efi": grub,
        "/EFI/redhat/grub.cfg": STUB,
    }
    assert look(files).steps[-1].path == "/EFI/sles/grub.efi" and entry(look(files), files).root == "a"
    del files["/EFI/sles/grub.efi"]
    assert look(files).missing == "/EFI/sles/grub.efi"


def test_lists_for_shims_fallback() -> None:
    assert efi.listed(CSV) == ["shimx64.efi"]
    assert efi.listed("\\sub\\a.efi,t\r\n\r\nb.efi,x,y,z\n".encode("utf-16-le")) == ["sub/a.efi", "b.efi"]
    assert efi.listed(b"\xff") is not None


@pytest.mark.parametrize(
    ("program", "what", "end"),
    [
        (SYSTEMD, What.SYSTEMD_BOOT, EfiEnd.SYSTEMD_BOOT),
        (WINDOWS, What.WINDOWS, EfiEnd.WINDOWS),
        (MOK, What.MOK_MANAGER, EfiEnd.OTHER),
        (efiprograms.unified(options="root=u"), What.UNIFIED, EfiEnd.UNIFIED),
        (b"no program", What.NO_PROGRAM, EfiEnd.OTHER),
        (efiprograms.program({".text": b"x"}, machine=0x14C), What.NO_PROGRAM, EfiEnd.OTHER),
        (efiprograms.program({".text": wide("rEFInd")}), What.REFIND, EfiEnd.OTHER),
        (b"", What.NO_PROGRAM, EfiEnd.OTHER),
        (efiprograms.program({".text": b"SYSLINUX 6"}), What.SYSLINUX, EfiEnd.OTHER),
        (efiprograms.program({".text": b"what"}), What.OTHER, EfiEnd.OTHER),
    ],
)
def test_programs(program: bytes, what: What, end: EfiEnd) -> None:
    way = look({"/EFI/BOOT/BOOTX64.EFI": program})
    assert ([step.what for step in way.steps], way.end) == ([what], end)
    got = way.started(Machines(Tree({"/EFI/BOOT/BOOTX64.EFI": program, "/loader/loader.conf": ""})))
    assert isinstance(got.entry, Entry) if end is EfiEnd.UNIFIED else not isinstance(got.entry, Entry)


def test_systemd_boot_by_the_removable_path() -> None:
    files: Contents = {
        "/EFI/BOOT/BOOTX64.EFI": SYSTEMD,
        "/loader/entries/a.conf": "linux /k\noptions root=r\n",
        "/k": b"k",
    }
    assert entry(look(files), files).root == "r"


def test_nothing_on_the_removable_path() -> None:
    files: Contents = {"/EFI/Microsoft/Boot/bootmgfw.efi": WINDOWS}
    way = look(files)
    assert (way.end, way.missing) == (EfiEnd.MISSING, efi.REMOVABLE) and way.others == (
        "/EFI/Microsoft/Boot/bootmgfw.efi",
    )


def test_what_cant_be_read_is_not_known(grub: bytes) -> None:
    sound: Contents = {"/EFI/BOOT/BOOTX64.EFI": SHIM, "/EFI/BOOT/grubx64.efi": grub}
    for path in ("/EFI/BOOT/BOOTX64.EFI", "/EFI/BOOT/fbx64.efi", "/EFI/BOOT/grubx64.efi"):
        way = look({**sound, path: UNREADABLE})
        assert way.end is EfiEnd.UNREAD and UNREADABLE.why in way.why, path


def test_a_grub_of_red_hats_looks_beside_itself_first() -> None:
    sections = {"mods": b"mimg" + struct.pack("<IQQ", 0, 24, 48) + struct.pack("<II16s", 3, 24, b"/EFI/redhat")}
    plain, red_hats = (efiprograms.program({**sections, ".data": data}) for data in (b"", b"fw_path"))
    for program, first in ((plain, False), (red_hats, True)):
        way = look({"/EFI/BOOT/BOOTX64.EFI": program})
        assert way.core is not None and (way.core.prefix, way.core.folder_first) == ("/EFI/redhat", first)


def test_a_configuration_beside_the_image_that_its_prefix_does_not_name(grub: bytes) -> None:
    """Some vendors' GRUBs read it, others don't."""
    files: Contents = {"/EFI/BOOT/BOOTX64.EFI": grub, "/EFI/BOOT/grub.cfg": STUB}
    got = look(files).started(Machines(Tree(files)))
    assert isinstance(got.entry, Unknown) and "/EFI/BOOT/grub.cfg" in got.entry.why


def test_a_grub_with_everything_in_its_own_memory(home: Path) -> None:
    """As grub-mkstandalone makes it."""
    config = home / "boot/grub/grub.cfg"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(EARLY + "configfile $prefix/grub.cfg\n")
    subprocess.run(["tar", "-cf", home / "memdisk", "-C", home, "boot"], check=True)
    program = made(home / "alone.efi", "x86_64-efi", "(memdisk)/boot/grub", "", "-m", str(home / "memdisk"))
    files: Contents = {"/EFI/BOOT/BOOTX64.EFI": program}
    assert entry(look(files), files).kernel.device == f"uuid:{U1}"


BOOTSTRAP = "if [ -e $prefix/grub.cfg ]; then source $prefix/grub.cfg; else source $cmdpath/grub.cfg; fi\n"


@pytest.mark.parametrize("form", ["fat", "other"])
def test_debians_signed_grub(form: str, home: Path) -> None:
    """Its commands stand on a disk in its memory. Where that can't be read, what they do is known."""
    disk = home / f"memdisk.{form}"
    disk.write_bytes(b"hsqs" + bytes(2000) if form == "other" else bytes(720 << 10))
    if form == "fat":
        (home / "grub.cfg").write_text(BOOTSTRAP)
        subprocess.run(["mformat", "-i", disk, "-f", "720", "::"], check=True, capture_output=True)
        subprocess.run(["mcopy", "-i", disk, home / "grub.cfg", "::grub.cfg"], check=True, capture_output=True)
    program = made(home / f"{form}.efi", "x86_64-efi", "/EFI/debian", "normal (memdisk)/grub.cfg\n", "-m", str(disk))
    for folder in ("debian", "BOOT"):
        files: Contents = {
            "/EFI/BOOT/BOOTX64.EFI": SHIM,
            "/EFI/BOOT/grubx64.efi": program,
            f"/EFI/{folder}/grub.cfg": STUB,
        }
        assert entry(look(files), files).root == "a"
    files = {"/EFI/BOOT/BOOTX64.EFI": program}
    assert look(files).started(Machines(Tree(files))).entry is ABSENT
    other = made(home / "other.efi", "x86_64-efi", "/EFI/acme", "normal (memdisk)/grub.cfg\n", "-m", str(disk))
    files = {"/EFI/BOOT/BOOTX64.EFI": other, "/EFI/acme/grub.cfg": STUB}
    got = look(files).started(Machines(Tree(files)))
    assert isinstance(got.entry, Unknown) == (form == "other")


def mbr(code: bytes = b"", *, active: int = 0) -> bytes:
    """A first sector. active: the first sector of an active partition, 0 for none."""
    sector = bytearray(512)
    sector[: len(code)] = code
    sector[446:462] = struct.pack("<B3xB3xII", 0x80 if active else 0, 0x83, active or 64, 100)
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


def grub_disk(image: bytes, at: int = 1) -> bytes:
    """As grub-bios-setup lays it out. at: the sector of the core image."""
    boot = bytearray(Path("/usr/lib/grub/i386-pc/boot.img").read_bytes())
    boot[446:] = mbr()[446:]
    boot[0x5C:0x64] = struct.pack("<Q", at)
    rest = bytearray(image + bytes(-len(image) % 512))
    rest[0x1F4:0x1FE] = struct.pack("<QH", at + 1, len(rest) // 512 - 1)
    return bytes(boot) + bytes(512 * (at - 1)) + bytes(rest) + bytes(4096)


def by_bios(disk: bytes) -> biosgrub.BiosWay:
    return biosgrub.look(lambda offset, count: disk[offset : offset + count])


@pytest.fixture(scope="module")
def core_image(home: Path) -> bytes:
    return made(home / "core.img", "i386-pc", "(,msdos1)/boot/grub", EARLY, "biosdisk")


def test_grub_by_the_bios(core_image: bytes, home: Path) -> None:
    for at in (1, 40):
        way = by_bios(grub_disk(core_image, at))
        assert way.end is biosgrub.BiosEnd.GRUB and way.core is not None, way.why
        assert (way.core.prefix, way.core.config, way.core.platform) == ("(,msdos1)/boot/grub", EARLY, "pc")
    got = way.started(Machines(Tree({}), {f"uuid:{U1}": Tree({"/boot/grub/grub.cfg": CONFIG})}))
    assert isinstance(got.entry, Entry) and got.entry.kernel.device == f"uuid:{U1}"
    plain = by_bios(grub_disk(made(home / "lvm.img", "i386-pc", "(lvm/vg-root)/boot/grub", "", "lvm")))
    assert plain.core is not None and (plain.core.prefix, plain.core.config) == ("(lvm/vg-root)/boot/grub", "")


def test_a_core_image_that_is_not_there_or_damaged(core_image: bytes) -> None:
    disk = bytearray(grub_disk(core_image))
    disk[512:1024] = bytes(512)
    assert by_bios(bytes(disk)).core is None and "no core image" in by_bios(bytes(disk)).why
    disk = bytearray(grub_disk(core_image))
    disk[9000:9100] = b"\xff" * 100
    way = by_bios(bytes(disk))
    assert way.end is biosgrub.BiosEnd.GRUB and way.core is None and way.why
    got = way.started(Machines(Tree({})))
    assert isinstance(got.entry, Unknown)


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\0\1"])
def test_a_core_image_of_nothing_is_given_up_soon(fill: bytes, core_image: bytes) -> None:
    disk = bytearray(grub_disk(core_image))
    rest = len(disk) - 1044
    disk[1044:] = (fill * rest)[:rest]
    disk[1032:1040] = struct.pack("<II", 20000, core.MAX_UNPACKED)
    assert by_bios(bytes(disk)).core is None


PLAIN = b"\xfa\x33\xc0Invalid partition table\0Error loading operating system\0Missing operating system"

LEGACY = b"\xebH\x90".ljust(0x3E, b"\0") + b"\x03\x02" + bytes(320) + b"GRUB \0Geom\0Hard Disk\0Read\0 Error"


@pytest.mark.parametrize(
    ("disk", "end"),
    [
        (bytes(512), "EMPTY"),
        (mbr(), "EMPTY"),
        (b"", "EMPTY"),
        (mbr(b"\xeb\x63\x90"), "UNREAD"),
        (mbr(PLAIN), "ACTIVE"),
        (mbr(LEGACY), "GRUB_LEGACY"),
        (mbr(PLAIN, active=1) + mbr(b"\xeb\x58\x90EXTLINUX"), "SYSLINUX"),
        (mbr(PLAIN, active=1), "EMPTY"),
        (mbr(PLAIN, active=1) + mbr(b"\xeb\x52\x90NTFS    "), "WINDOWS"),
        (mbr(PLAIN, active=1) + bytes(512), "EMPTY"),
        (mbr(PLAIN, active=1) + mbr(b"\xeb\x58\x90MSDOS5.0....BOOTMGR is missing"), "WINDOWS"),
        (mbr(PLAIN, active=1) + mbr(b"\xeb\x58\x90FRDOS5.1"), "FREEDOS"),
        (mbr(PLAIN, active=1) + mbr(b"x"), "UNREAD"),
    ],
)
def test_boot_sectors(disk: bytes, end: str) -> None:
    way = by_bios(disk)
    assert way.end is biosgrub.BiosEnd[end] and (way.end is biosgrub.BiosEnd.SYSLINUX or way.why)


def test_grub_in_a_partition_of_its_own(core_image: bytes) -> None:
    inner = grub_disk(core_image, at=10)
    way = by_bios(mbr(PLAIN, active=8) + bytes(512 * 7) + inner[:512] + bytes(512) + inner[512 * 10 :])
    assert (way.end, way.partition) == (biosgrub.BiosEnd.GRUB, 8 * 512) and way.core is not None


def test_a_bootable_partition_of_a_gpt() -> None:
    entry = b"t" * 16 + b"u" * 16 + struct.pack("<QQQ", 8, 99, 4) + bytes(72)
    head = b"EFI PART".ljust(72, b"\0") + struct.pack("<QII", 2, 2, 128)
    disk = mbr(b"Missing OS !GPT") + head.ljust(512, b"\0") + (bytes(128) + entry).ljust(512 * 6, b"\0")
    way = by_bios(disk + mbr(b"\xeb\x58\x90SYSLINUX"))
    assert (way.end, way.partition) == (biosgrub.BiosEnd.SYSLINUX, 4096)
    assert by_bios(mbr(b"Missing OS !GPT") + bytes(9000)).end is biosgrub.BiosEnd.ACTIVE
    files: Contents = {"/extlinux.conf": "DEFAULT v root=x\n"}
    got = way.started(Machines(Tree(files)))
    assert isinstance(got.entry, Entry) and way.started(Machines(Tree({}))).entry is ABSENT


def test_hostile_images_end_in_an_answer(grub: bytes, core_image: bytes) -> None:
    rng, at = random.Random(13), grub.index(b"mimg")
    for _ in range(30):
        data, disk = bytearray(grub), bytearray(grub_disk(core_image))
        for _ in range(rng.randrange(1, 6)):
            data[rng.choice((rng.randrange(0x400), at + rng.randrange(64)))] = rng.choice((0, 255, rng.randrange(256)))
            disk[rng.choice((0x5A + rng.randrange(12), 512 + rng.randrange(512), 1024 + rng.randrange(32)))] = (
                rng.randrange(256)
            )
        look({"/EFI/BOOT/BOOTX64.EFI": bytes(data)})
        by_bios(bytes(disk))
    for _ in range(500):
        area = b"mimg" + struct.pack("<IQQ", 0, 24, 200) + rng.randbytes(rng.randrange(300))
        image.objects(area, wide=True)
        image.objects(b"mimg" + rng.randbytes(60), wide=False)
        Memdisk(b"\xeb" + rng.randbytes(509) + b"\x55\xaa" + rng.randbytes(600)).names("/")
        Memdisk((rng.randbytes(124) + b"00000000777\0").ljust(257, b"0") + b"ustar" + rng.randbytes(700)).names("/")


def test_a_program_that_leads_to_itself_ends() -> None:
    loop = efiprograms.program({".text": b"UEFI SHIM", ".data": wide("x", "\\loop.efi", "y")})
    way = look({"/EFI/BOOT/BOOTX64.EFI": loop, "/EFI/BOOT/loop.efi": loop})
    assert way.end is EfiEnd.UNREAD and "more than" in way.why
    assert efiprogram.known(Tree({"/x": loop}), "/x") != ABSENT
