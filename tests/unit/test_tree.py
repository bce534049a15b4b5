"""A system's files over its mounts, and which folder of a Btrfs is its root; in memory."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from rigs.guests.memoryfiles import MemoryFiles
from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown
from warmspare.recover.readiness.guest import tree
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.guest.tree import MountTree
from warmspare.recover.readiness.readers import rootfolder
from warmspare.recover.readiness.readers.rootfolder import RootFolder


@dataclass(frozen=True, slots=True)
class Line:
    device: str
    point: str
    kind: str = "ext4"
    options: tuple[str, ...] = ("defaults",)


BOOT = MemoryFiles({"/vmlinuz-6": "kernel", "/grub/grub.cfg": "x"})
USR = MemoryFiles({"/lib/modules/6/modules.dep": "dep", "/local/x": "old"})
HOLDERS: dict[str, Answer[GuestFiles]] = {
    "UUID=boot": BOOT,
    "UUID=usr": USR,
    "UUID=local": MemoryFiles({"/x": "new"}),
    "UUID=gone": ABSENT,
    "/dev/mapper/thin": Unknown("a thin volume"),
}
ROOT = {"/etc/fstab": "x", "/boot/": "", "/usr/": "", "/lib": "", "/boot/left-over": "hidden", "/home/old": "o"}


def system(*lines: Line, root: dict[str, str | Unknown] | None = None) -> MountTree:
    return tree.of_system(MemoryFiles(root or {**ROOT}), lines, lambda device, options: HOLDERS[device])


def test_the_longest_mount_point_counts() -> None:
    made = system(Line("UUID=local", "/usr/local"), Line("UUID=boot", "/boot/"), Line("UUID=usr", "/usr"))
    assert made.read("/boot/vmlinuz-6") == made.read("/etc/../boot//vmlinuz-6") == b"kernel"
    assert made.read("/boot/left-over") is ABSENT and made.read("/bootx") is ABSENT
    assert (made.read("/usr/local/x"), made.head("/usr/local/x", 1)) == (b"new", b"n")
    assert made.names("/boot") == ["grub/", "vmlinuz-6"] and made.names("/boot/grub") == ["grub.cfg"]
    with made.stream("/boot/vmlinuz-6") as file:
        assert file.read() == b"kernel"


def test_of_two_at_one_point_the_last_is_seen() -> None:
    assert system(Line("UUID=boot", "/usr"), Line("UUID=local", "/usr")).read("/usr/x") == b"new"


def test_what_is_on_a_volume_that_is_not_read_is_not_known() -> None:
    made = system(Line("/dev/mapper/thin", "/boot"), Line("UUID=gone", "/home"))
    assert made.read("/boot/left-over") == Unknown("/boot is on /dev/mapper/thin: a thin volume")
    assert made.names("/home") == Unknown("/home is on UUID=gone, which is not there")
    with pytest.raises(OSError, match="a thin volume"), made.stream("/boot/left-over"):
        pass


def test_what_is_not_mounted_at_the_start_hides_nothing() -> None:
    assert system(Line("UUID=boot", "/boot", options=("noauto",))).read("/boot/left-over") == b"hidden"
    automount = ("noauto", "x-systemd.automount")
    assert system(Line("UUID=boot", "/boot", options=automount)).read("/boot/left-over") is ABSENT
    assert system(Line("UUID=boot", "none", "swap"), Line("UUID=boot", "/")).read("/etc/fstab") == b"x"


def test_links_into_a_usr_of_its_own_are_followed() -> None:
    """The root's /lib is a link, to a folder that its own volume has nothing in."""
    made = system(Line("UUID=usr", "/usr"))
    assert made.read("/lib/modules/6/modules.dep") == b"dep"
    folder = {"/lib/modules/6/modules.dep": "root's", "/usr/": ""}
    assert system(Line("UUID=usr", "/usr"), root={**folder}).read("/lib/modules/6/modules.dep") == b"root's"


def test_folders_that_are_seen_at_another_place() -> None:
    bind = Line("/usr/local", "/opt/l", "none", ("bind",))
    made = system(Line("UUID=usr", "/usr"), bind, Line("UUID=local", "/usr/local"))
    assert made.read("/opt/l/x") == b"old" and made.names("/opt/l") == ["x"]
    # What comes later is not there yet, and what refers to itself ends.
    loop = system(Line("/a", "/b", "none", ("bind",)), Line("/b", "/a", "none", ("rbind",)))
    assert loop.read("/a/x") is ABSENT and loop.read("/b/x") is ABSENT


def test_what_is_no_disk() -> None:
    made = system(Line("tmpfs", "/home", "tmpfs"), Line("overlay", "/srv", "overlay"))
    assert made.read("/home/old") is ABSENT and isinstance(made.read("/srv/x"), Unknown)


def test_mounts_are_bounded() -> None:
    made = system(*[Line("UUID=boot", f"/m{number}") for number in range(tree.MAX_MOUNTS + 5)])
    assert made.read("/m3/vmlinuz-6") == b"kernel"
    assert "more than" in str(made.read(f"/m{tree.MAX_MOUNTS + 1}/vmlinuz-6"))


class Subvolumes:
    """What `Subvolumes` says, made up."""

    def __init__(self, default: int | Unknown, paths: dict[int, str]) -> None:
        self._default, self._paths = default, paths

    def default(self) -> int | Unknown:
        return self._default

    def path(self, number: int) -> str | Unknown:
        return self._paths.get(number, Unknown(f"no subvolume {number}"))


def root_of(paths: list[str], default: int | Unknown = 5, options: str = "") -> Answer[RootFolder]:
    known = Subvolumes(default, {5: "", 300: "/@/.snapshots/3/snapshot", 301: "/@/.snapshots/12/snapshot"})
    top = MemoryFiles({f"{path}/etc/fstab": "" for path in paths})
    return rootfolder.root_folder(top, options.split(",") if options else [], lambda: known)


def test_the_root_of_a_btrfs() -> None:
    snapshots = [f"/@/.snapshots/{number}/snapshot" for number in (1, 3, 12)]
    assert root_of(["/@", "/root"], options="subvol=root") == RootFolder("/root", True)
    assert root_of(["/@"], options="compress=zstd,subvol=/@") == RootFolder("/@", True)
    assert root_of(snapshots, 300) == RootFolder("/@/.snapshots/3/snapshot", True)
    assert root_of(snapshots, 300, "subvolid=301") == RootFolder("/@/.snapshots/12/snapshot", True)
    assert root_of(["", "/@"], 5) == RootFolder("", True)
    assert root_of(["/@"], 5, "subvolid=5") == RootFolder("", True)


def test_where_the_default_holds_no_system_another_is_looked_for_and_said_to_be_so() -> None:
    assert root_of(["/@rootfs"]) == RootFolder("/@rootfs", False)
    assert root_of([f"/@/.snapshots/{number}/snapshot" for number in (2, 9, 10)]) == (
        RootFolder("/@/.snapshots/10/snapshot", False)
    )
    assert root_of(["/@"], Unknown("damaged")) == RootFolder("/@", False)
    assert root_of([], Unknown("damaged")) == Unknown("damaged")
    assert root_of(["/other"]) is ABSENT
    for options in ("subvolid=999", "subvolid=-", "subvolid=" + "9" * 400):
        assert isinstance(root_of([""], options=options), Unknown)
