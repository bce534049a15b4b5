"""What systemd-boot starts by itself, unified kernel images, and what EFI programs and kernels say of themselves."""

from __future__ import annotations

import itertools
import random

import pytest

from rigs.guests.guesttrees import Machines, Tree
from unit import efiprograms
from warmspare.recover.readiness.answers import ABSENT, Unknown
from warmspare.recover.readiness.guest.entries import Entry, FilePlace
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.loaders import kernelimage, pe, uki
from warmspare.recover.readiness.loaders.started import Started
from warmspare.recover.readiness.loaders.systemdboot import start
from warmspare.recover.readiness.loaders.versions import rpm_order, split_package, uapi_order

UNREADABLE = Unknown("this file system can't be read")
Contents = dict[str, str | bytes | Unknown]


def started(files: Contents, extended: Contents | None = None) -> Started:
    others: dict[str, GuestFiles | Unknown] = {"x": Tree(extended, any_case=True)} if extended is not None else {}
    return start(Machines(Tree(files, any_case=True), others), "x" if others else "")


def entry(got: Started) -> Entry:
    assert isinstance(got.entry, Entry), (got.entry, got.how)
    return got.entry


def entries(*named: tuple[str, str], config: str = "") -> Contents:
    """Entries by their names, with more lines; each has a kernel of its own."""
    files: Contents = {"/loader/loader.conf": config}
    for number, (name, more) in enumerate(named):
        files[f"/loader/entries/{name}.conf"] = f"title T\nlinux /k{number}\noptions root={name}\n{more}\n"
        files[f"/k{number}"] = b"kernel"
    return files


@pytest.mark.parametrize(
    ("named", "config", "expected"),
    [
        ([("a-1", ""), ("a-10", ""), ("a-9", "")], "", "a-10"),
        ([("a-1", ""), ("a-10", ""), ("a-9", "")], "default a-9.conf", "a-9"),
        ([("a-1", ""), ("a-10", ""), ("a-9", "")], "default a-?.conf", "a-9"),
        ([("a-1", ""), ("B-2", "")], "default b-*", "B-2"),
        ([("a-1", ""), ("a-2", "")], "default gone.conf", "a-2"),
        ([("a-1", ""), ("a-2", "")], "default @saved", "a-2"),
        ([("z", "sort-key b"), ("y", "sort-key a"), ("zz", "")], "", "y"),
        ([("a", "sort-key s\nversion 6.9"), ("b", "sort-key s\nversion 6.10")], "", "b"),
        ([("a", "sort-key s\nmachine-id f\nversion 9"), ("b", "sort-key s\nmachine-id e\nversion 1")], "", "b"),
        ([("a-9+0-3", ""), ("a-1", "")], "", "a-1"),
        ([("a-9+2-1", ""), ("a-1", "")], "", "a-9+2-1"),
        ([("a-9+0-3", ""), ("a-1", "")], "default a-9.conf", "a-9+0-3"),
        ([("a", ""), ("auto-z", "")], "", "a"),
        ([("a", ""), ("z", "architecture aa64")], "", "a"),
        ([("a", ""), ("z", "architecture X64")], "", "z"),
    ],
)
def test_which_entry_is_the_default(named: list[tuple[str, str]], config: str, expected: str) -> None:
    for order in itertools.permutations(named):
        assert entry(started(entries(*order, config=config))).root == expected


def test_an_entry_is_what_it_says() -> None:
    files = entries(("arch", "initrd /ucode.img\ninitrd /initramfs.img\noptions quiet\nversion 6.9.1\nmachine-id A"))
    got = started(files)
    assert entry(got) == Entry(
        "/loader/entries/arch.conf",
        "T",
        FilePlace("", "/k0"),
        (FilePlace("", "/ucode.img"), FilePlace("", "/initramfs.img")),
        ("root=arch", "quiet"),
        "6.9.1",
    )
    assert got.config == FilePlace("", "/loader/loader.conf") and got.waits == "" and "first of its entries" in got.how
    assert "menu-force" in started({**files, "/loader/loader.conf": "timeout menu-force"}).waits


def test_an_entry_without_its_kernel_is_none() -> None:
    files = entries(("a-1", ""), ("a-2", ""))
    del files["/k1"]
    assert entry(started(files)).root == "a-1"
    del files["/k0"]
    got = started(files)
    assert got.entry is ABSENT and "/k1 is not there" in got.how and "/k0 is not there" in got.how


def test_the_extended_boot_partition() -> None:
    got = entry(started(entries(("a-1", "")), entries(("a-2", ""))))
    assert (got.root, got.kernel) == ("a-2", FilePlace("x", "/k0"))


def test_what_cant_be_read_is_not_known() -> None:
    for path in ("/loader/loader.conf", "/loader/entries", "/loader/entries/a-1.conf", "/k0", "/EFI/Linux"):
        got = started({**entries(("a-1", "")), path: UNREADABLE})
        assert isinstance(got.entry, Unknown) and UNREADABLE.why in got.entry.why, path


def test_no_entry_at_all() -> None:
    assert started({}).entry is ABSENT
    got = started({"/EFI/Microsoft/Boot/bootmgfw.efi": b"MZ"})
    assert isinstance(got.entry, Unknown) and got.program == FilePlace("", "/EFI/Microsoft/Boot/bootmgfw.efi")
    got = started({"/loader/entries/a.conf": "efi /EFI/other.efi\n", "/EFI/other.efi": b"MZ"})
    assert isinstance(got.entry, Unknown) and got.program == FilePlace("", "/EFI/other.efi")


RELEASE = 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=41\nPRETTY_NAME="Fedora Linux 41"\nIMAGE_VERSION=3\n'


def test_a_unified_kernel_image() -> None:
    image = efiprograms.unified(options="root=UUID=x ro", release=RELEASE, uname="6.11.4-301.fc41.x86_64\n")
    got = started({"/EFI/Linux/fedora.efi": image, "/EFI/Linux/note.txt": "x", "/EFI/Linux/broken.efi": "MZ"})
    path = "/EFI/Linux/fedora.efi"
    assert entry(got) == Entry(
        path,
        "Fedora Linux 41",
        FilePlace("", path + ":.linux"),
        (FilePlace("", path + ":.initrd"),),
        ("root=UUID=x", "ro"),
        "6.11.4-301.fc41.x86_64",
    )


def test_a_unified_kernel_image_of_several_profiles_starts_the_first() -> None:
    """UAPI.5: each profile's sections follow its `.profile`, and take the place of the base's."""
    base = [(".osrel", RELEASE.encode()), (".cmdline", b"root=base"), (".linux", b"k"), (".initrd", b"i")]
    second = [(".profile", b"ID=reset"), (".cmdline", b"root=reset")]
    plain, other = [(".profile", b"ID=main")], [(".profile", b""), (".cmdline", b"root=main")]
    for first, root in ((plain, "base"), (other, "main")):
        got = started({"/EFI/Linux/a.efi": efiprograms.program([*base, *first, *second])})
        assert entry(got).root == root


def test_unified_kernel_images_among_other_entries() -> None:
    def image(version: str) -> bytes:
        return efiprograms.unified(options=f"root={version}", release=f"ID=fedora\nIMAGE_VERSION={version}\n")

    files: Contents = {"/EFI/Linux/a.efi": image("9"), "/EFI/Linux/b+3.efi": image("10"), **entries(("zz", ""))}
    assert entry(started(files)).root == "10"
    assert entry(started({**files, "/loader/loader.conf": "default a.efi"})).root == "9"
    files["/EFI/Linux/b+0-3.efi"] = files.pop("/EFI/Linux/b+3.efi")
    assert entry(started(files)).root == "9"


def test_an_entry_for_a_unified_kernel_image() -> None:
    files: Contents = {
        "/u.efi": efiprograms.unified(options="root=own"),
        "/loader/entries/a.conf": "title A\nuki /u.efi\n",
    }
    assert (entry(started(files)).root, entry(started(files)).title) == ("own", "A")
    files["/loader/entries/a.conf"] = "title A\nefi /u.efi\noptions root=given\n"
    assert entry(started(files)).root == "given"


def test_addons_of_the_command_line() -> None:
    addon = efiprograms.program({".cmdline": b"extra=1"})
    files: Contents = {
        "/EFI/Linux/a.efi": efiprograms.unified(options="root=x"),
        "/EFI/Linux/a.efi.extra.d/b.addon.efi": addon,
        "/loader/addons/c.addon.efi": efiprograms.program({".cmdline": b"extra=2\0"}),
    }
    assert entry(started(files)).arguments == ("root=x", "extra=1", "extra=2")
    assert isinstance(started({**files, "/loader/addons": UNREADABLE}).entry, Unknown)


def test_what_is_inside_of_an_image_reads_as_files() -> None:
    tree = uki.Inside(
        Tree({"/u.efi": efiprograms.unified(kernel=b"k" * 3000, initrd=b"i" * 70000), "/x:.linux": b"plain"})
    )
    assert tree.read("/u.efi:.linux") == b"k" * 3000 and tree.head("/u.efi:.initrd", 3) == b"iii"
    with tree.stream("/u.efi:.initrd") as stream:
        assert stream.read(10) == b"i" * 10 and stream.read() == b"i" * 69990 and stream.read(5) == b""
    assert tree.read("/u.efi:.none") is ABSENT and tree.read("/gone.efi:.linux") is ABSENT
    assert tree.read("/x:.linux") == b"plain" and tree.names("/") == ["u.efi", "x:.linux"]
    assert isinstance(tree.read("/u.efi:.initrd", most_bytes=100), Unknown)
    with pytest.raises(OSError, match="no such"), tree.stream("/u.efi:.none"):
        pass


def test_an_image_that_ends_too_soon() -> None:
    whole = efiprograms.unified(options="root=x", kernel=bytes(9000))
    tree = Tree({"/u.efi": whole[:0x500]})
    assert isinstance(uki.Inside(tree).read("/u.efi:.initrd"), Unknown)
    for cut in range(0, len(whole), 97):
        uki.image(Tree({"/u.efi": whole[:cut]}), FilePlace("", "/u.efi"))


def test_sections_of_programs() -> None:
    assert pe.program(b"") is None and pe.program(b"MZ" + bytes(100)) is None
    got = pe.program(efiprograms.program({".text": b"abc", ".linux": bytes(600)}))
    assert got is not None and [(each.name, each.bytes) for each in got.sections] == [(".text", 3), (".linux", 600)]
    rng, whole = random.Random(3), efiprograms.unified(options="x")
    for _ in range(2000):
        data = bytearray(whole[:0x400])
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.choice((0, 255, 127, 1, rng.randrange(256)))
        pe.program(bytes(data))


def test_a_kernels_own_version() -> None:
    tree = Tree(
        {"/k": efiprograms.kernel("6.1.0-9-amd64"), "/gz": b"\x1f\x8b" + bytes(99), "/x": b"nonsense", "/e": b""}
    )
    assert kernelimage.version_of(tree, "/k") == "6.1.0-9-amd64" and kernelimage.version_of(tree, "/gone") is ABSENT
    for path in ("/gz", "/x", "/e"):
        found = kernelimage.version_of(tree, path)  # a loader may unpack the first
        assert isinstance(found, Unknown) and isinstance(found, kernelimage.NoKernel) == (path != "/gz"), path
    silent = bytearray(efiprograms.kernel("6.1"))
    silent[0x20E:0x210] = bytes(2)
    assert kernelimage.is_image(silent) and kernelimage.stated_version(bytes(silent)) is None
    for cut in range(0x240):
        kernelimage.stated_version(efiprograms.kernel("6.1")[:cut])
    silent[0x20E:0x210] = b"\xff\xff"
    assert kernelimage.stated_version(bytes(silent)) is None


# Each list goes from the least to the greatest.
RPM = [
    ["1.0~rc1", "1.0", "1.0^git1", "1.0.1", "1.1"],
    ["5.14.0", "5.14.0a", "5.14.0.1", "5.15"],
    ["a", "b", "1"],
    ["2.0", "2.0.1"],
    ["1~~", "1~", "1"],
    ["9", "10", "010.1"],
    ["70.el9", "427.el9"],
]
UAPI = [
    [
        "122.1",
        "123~rc1-1",
        "123",
        "123-a",
        "123-a.1",
        "123-1",
        "123-1.1",
        "123^post1",
        "123.a-1",
        "123.1-1",
        "123a-1",
        "124-1",
    ],
    ["", "1"],
    ["6.9", "6.10"],
    ["a-1.conf", "a-9.conf", "a-10.conf"],
    ["~", ""],
    ["a", "b"],
]


@pytest.mark.parametrize(("order", "lists"), [(rpm_order, RPM), (uapi_order, UAPI)])
def test_orders_of_versions(order: object, lists: list[list[str]]) -> None:
    assert callable(order)
    for versions in lists:
        for (left, one), (right, other) in itertools.product(enumerate(versions), repeat=2):
            got = order(one, other)
            assert (got > 0) - (got < 0) == (left > right) - (left < right), (one, other)


def test_orders_are_orders() -> None:
    rng = random.Random(11)
    words = ["".join(rng.choices("019ab~^.-_+é²", k=rng.randrange(6))) for _ in range(60)]
    for order in (rpm_order, uapi_order):
        for one, other in itertools.product(words, repeat=2):
            assert order(one, other) == -order(other, one)


def test_names_as_packages() -> None:
    assert split_package("id-5.14.0-427.el9.x86_64") == ("id", "5.14.0", "427.el9.x86_64")
    assert split_package("ostree-2") == ("ostree", "2", "") and split_package("x") == ("x", "", "")
