"""What /etc/fstab asks of a start, line by line, by systemd's rules; refuses to know what is there.

fstab(5), systemd.mount(5), systemd-fstab-generator(8). local-fs.target has OnFailure=emergency.target, and nothing else
that is made of fstab has: so a local file system is needed unless its line says otherwise, and swap or a network's
never is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from warmspare.recover.disks.programs import Exceeded

MAX_LINES = 10_000  # of an fstab
NETWORK = frozenset(
    {
        "afs",
        "ceph",
        "cifs",
        "davfs",
        "gfs",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncp",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "pvfs2",
        "smb3",
        "smbfs",
        "sshfs",
    }
)
# Without a device of a disk. A shared folder of the hypervisor's is not among them: it will not be there.
PSEUDO = frozenset(
    {
        "autofs",
        "bdev",
        "binder",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "cpuset",
        "debugfs",
        "devfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "hugetlbfs",
        "ipathfs",
        "mqueue",
        "nfsd",
        "none",
        "nsfs",
        "overlay",
        "proc",
        "pstore",
        "ramfs",
        "resctrl",
        "rootfs",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "sysfs",
        "tmpfs",
        "tracefs",
        "usbfs",
        "aufs",
        "overlayfs",
        "unionfs",
        "usbdevfs",
        "xenfs",
    }
)
HYPERVISOR = frozenset({"vmhgfs", "vmhgfs-fuse", "vboxsf", "prl_fs", "9p", "virtiofs"})
_DEVICE = re.compile(r"/dev/|(?:UUID|LABEL|PARTUUID|PARTLABEL|ID)=")
_REMOTE = re.compile(r"//|[^/=\s]{1,255}:/")
_INITIAL = frozenset({"/usr"})  # mounted before the root is the root
_REMOTE_TARGETS = ("remote-fs.target", "multi-user.target", "graphical.target", "default.target")


# Types that are mounted as one another, by fstab's names and blkid's. Others, and `auto`, are whatever is there.
_KINDS = {
    "ext2": "ext",
    "ext3": "ext",
    "ext4": "ext",
    "xfs": "xfs",
    "btrfs": "btrfs",
    "vfat": "fat",
    "msdos": "fat",
    "ntfs": "ntfs",
    "ntfs3": "ntfs",
    "ntfs-3g": "ntfs",
    "f2fs": "f2fs",
    "swap": "swap",
    "swsuspend": "swap",
}


class Effect(StrEnum):
    """What a start does where a line's device is not there.

    STOPS: it ends in emergency mode. WAITS: it waits, for 90 s unless the line says otherwise, and goes on. GOES_ON: at
    once. UNUSED: nobody asks for it in a start. ROOT: the line of /, which root= has mounted already: where its tag is
    not found the root stays as the kernel mounted it, often read-only. UNKNOWN: it hangs on units that nobody reads.
    """

    STOPS = "stops"
    WAITS = "waits"
    GOES_ON = "goes on"
    UNUSED = "unused"
    ROOT = "root"
    UNKNOWN = "unknown"


class Sort(StrEnum):
    """What a line's device is by the line itself. DEVICE: to be looked up among the disks. DATASET: of ZFS. SHARED: a
    folder that the hypervisor lends. NETWORK: another machine's. FILE: of this system: bound, or an image. PSEUDO:
    nothing."""

    DEVICE = "device"
    DATASET = "dataset"
    SHARED = "shared"
    NETWORK = "network"
    FILE = "file"
    PSEUDO = "pseudo"


@dataclass(frozen=True, slots=True)
class FstabLine:
    """A line of fstab. line: its number, from 1. fsck: its sixth field is not 0. subvolume: of Btrfs, as subvol= names
    it; "" for the default one."""

    line: int
    device: str
    point: str
    kind: str
    options: tuple[str, ...]
    fsck: bool = False

    @property
    def sort(self) -> Sort:
        kind = self._program
        if kind == "zfs":
            return Sort.DATASET
        if kind in HYPERVISOR or self.device.startswith(".host:"):
            return Sort.SHARED
        if {"bind", "rbind", "loop"} & {*self.options} or any(one.startswith("loop=") for one in self.options):
            return Sort.FILE
        if kind in PSEUDO:
            return Sort.PSEUDO
        if kind in NETWORK or _REMOTE.match(self.device):
            return Sort.NETWORK
        if _DEVICE.match(self.device):
            return Sort.DEVICE
        if self.kind.startswith("fuse"):
            return Sort.NETWORK  # what it reaches is its own affair
        return Sort.FILE if self.device.startswith("/") else Sort.PSEUDO

    @property
    def _program(self) -> str:
        """Its type, and where that is FUSE, what serves it: `fuse.sshfs`, or `sshfs#host:` of the type fuse."""
        kind = self.kind.lower().removeprefix("fuse.")
        return self.device.partition("#")[0] if kind == "fuse" else kind

    @property
    def effect(self) -> Effect:
        """What systemd does without it."""
        options = {*self.options}
        if self.kind == "swap":
            return self._of_swap(options)
        if not self.point.startswith("/"):
            return Effect.UNUSED
        if "noauto" in options and "x-systemd.automount" not in options:
            return Effect.UNUSED
        if self.sort is Sort.PSEUDO or self.kind == "ignore":
            return Effect.UNUSED
        if self.point == "/":
            return Effect.ROOT
        if {"x-systemd.automount", "nofail", "comment=systemd.automount"} & options:  # the last is systemd's old word
            return Effect.GOES_ON
        if "_netdev" in options or self._program in NETWORK:
            return Effect.WAITS
        wanted = [one.partition("=")[2] for one in self.options if _ASKED.match(one)]
        if wanted and "x-initrd.mount" not in options:
            return self._of_units()
        return Effect.STOPS

    def _of_swap(self, options: set[str]) -> Effect:
        if "noauto" in options:
            return Effect.UNUSED
        return Effect.GOES_ON if "nofail" in options else Effect.WAITS

    def _of_units(self) -> Effect:
        """Where the line itself says which units ask for it, local-fs.target does not."""
        required = [one.partition("=")[2] for one in self.options if one.startswith("x-systemd.required-by=")]
        if "local-fs.target" in required:
            return Effect.STOPS
        return Effect.UNKNOWN if any(one not in _REMOTE_TARGETS for one in required) else Effect.WAITS

    @property
    def early(self) -> bool:
        """Whether the initramfs mounts it."""
        return self.point in _INITIAL or "x-initrd.mount" in self.options

    def takes(self, held: str) -> bool:
        """Whether what a device holds, by blkid's name, can be what the line has mounted; True where that is not
        known."""
        kinds = {_KINDS.get(one, "") for one in self.kind.lower().split(",")}
        family = _KINDS.get(held, "")
        if held == "crypto_LUKS":  # nobody mounts what is encrypted before it is opened
            return False
        return not family or "" in kinds or family in kinds

    @property
    def forever(self) -> bool:
        """Whether systemd waits for its device without end."""
        return any(_ENDLESS.fullmatch(one) for one in self.options)

    @property
    def subvolume(self) -> str:
        return subvolume(self.options)


def subvolume(options: Sequence[str]) -> str:
    """Of Btrfs, that a mount's options name by its path; "" for none."""
    named = [one.partition("=")[2] for one in options if one.startswith("subvol=")]
    return named[-1] if named else ""


_ASKED = re.compile(r"x-systemd\.(?:wanted|required)-by=")
_ENDLESS = re.compile(r"x-systemd\.device-timeout=(?:0|0s|infinity)")


def mounts(text: str) -> Iterator[FstabLine]:
    """The lines of an fstab that mean something. Exceeded after MAX_LINES of these."""
    count = 0
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split(maxsplit=6)
        # util-linux takes a line without options, systemd's reader one without a type too; neither one without a place.
        if len(words) < 2 or words[0].startswith("#"):
            continue
        count += 1
        if count > MAX_LINES:
            raise Exceeded(f"/etc/fstab has more than {MAX_LINES} lines; what follows line {number - 1} is not judged")
        plain = [unescaped(word) for word in words[:4]]
        options = tuple(plain[3].split(",")) if len(plain) > 3 else ("defaults",)
        fsck = len(words) > 5 and words[5].strip() != "0"
        kind = plain[2] if len(plain) > 2 else "auto"
        yield FstabLine(number, plain[0].replace('"', ""), _tidy(plain[1]), kind, options, fsck)


def unescaped(word: str) -> str:
    """A word of fstab or crypttab without its octal escapes, which stand for bytes of UTF-8."""
    if "\\" not in word:
        return word
    data = re.sub(
        rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8) & 0xFF]), word.encode(errors="surrogateescape")
    )
    return data.decode(errors="replace")


def _tidy(point: str) -> str:
    """A mount point as a path is compared: without slashes that mean nothing."""
    return re.sub(r"/+", "/", point).rstrip("/") or "/" if point.startswith("/") else point
