"""What fstab and crypttab ask of a start, by systemd's rules."""

from __future__ import annotations

import pytest

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.devices import crypttab, mounts
from warmspare.recover.readiness.devices.crypttab import Key, openings
from warmspare.recover.readiness.devices.mounts import Effect, FstabLine, Sort


def one(line: str) -> FstabLine:
    (found,) = mounts.mounts(line)
    return found


@pytest.mark.parametrize(
    ("line", "sort", "effect"),
    [
        ("UUID=1 /srv xfs defaults 0 0", Sort.DEVICE, Effect.STOPS),
        ("UUID=1 /srv xfs", Sort.DEVICE, Effect.STOPS),
        ("UUID=1 /srv xfs rw,nofail 0 0", Sort.DEVICE, Effect.GOES_ON),
        ("UUID=1 /srv xfs noauto 0 0", Sort.DEVICE, Effect.UNUSED),
        ("UUID=1 /srv xfs noauto,x-systemd.automount 0 0", Sort.DEVICE, Effect.GOES_ON),
        ("UUID=1 /srv xfs x-systemd.automount 0 0", Sort.DEVICE, Effect.GOES_ON),
        ("UUID=1 /srv xfs _netdev 0 0", Sort.DEVICE, Effect.WAITS),
        ("UUID=1 /srv xfs _netdev,nofail 0 0", Sort.DEVICE, Effect.GOES_ON),
        ("UUID=1 /srv xfs x-systemd.wanted-by=multi-user.target 0 0", Sort.DEVICE, Effect.WAITS),
        ("UUID=1 /srv xfs x-systemd.required-by=local-fs.target 0 0", Sort.DEVICE, Effect.STOPS),
        ("UUID=1 /srv xfs x-systemd.required-by=my.service 0 0", Sort.DEVICE, Effect.UNKNOWN),
        ("UUID=1 / ext4 defaults 0 1", Sort.DEVICE, Effect.ROOT),
        ("UUID=1 none swap sw 0 0", Sort.DEVICE, Effect.WAITS),
        ("UUID=1 none swap nofail 0 0", Sort.DEVICE, Effect.GOES_ON),
        ("UUID=1 none swap noauto 0 0", Sort.DEVICE, Effect.UNUSED),
        ("/dev/zram0 none swap sw 0 0", Sort.DEVICE, Effect.WAITS),
        ("/swapfile none swap sw 0 0", Sort.FILE, Effect.WAITS),
        ("/srv/www /var/www none bind 0 0", Sort.FILE, Effect.STOPS),
        ("/srv/www /var/www none rbind,nofail 0 0", Sort.FILE, Effect.GOES_ON),
        ("/srv/cd.iso /mnt iso9660 loop,ro 0 0", Sort.FILE, Effect.STOPS),
        ("tmpfs /tmp tmpfs size=2G 0 0", Sort.PSEUDO, Effect.UNUSED),
        ("proc /proc proc defaults 0 0", Sort.PSEUDO, Effect.UNUSED),
        ("UUID=1 none ignore defaults 0 0", Sort.DEVICE, Effect.UNUSED),
        (".host:/ /mnt/hgfs fuse.vmhgfs-fuse defaults,allow_other 0 0", Sort.SHARED, Effect.STOPS),
        (".host:/ /mnt/hgfs vmhgfs nofail 0 0", Sort.SHARED, Effect.GOES_ON),
        ("vmhgfs-fuse /mnt/hgfs fuse defaults 0 0", Sort.SHARED, Effect.STOPS),
        ("vmhgfs-fuse#.host:/ /mnt/hgfs fuse defaults 0 0", Sort.SHARED, Effect.STOPS),
        ("share /mnt 9p trans=virtio 0 0", Sort.SHARED, Effect.STOPS),
        ("nas:/export /nas nfs defaults 0 0", Sort.NETWORK, Effect.WAITS),
        ("[fe80::1]:/export /nas nfs4 defaults 0 0", Sort.NETWORK, Effect.WAITS),
        ("//nas/share /nas cifs credentials=/etc/c 0 0", Sort.NETWORK, Effect.WAITS),
        ("nas:/export /nas auto defaults 0 0", Sort.NETWORK, Effect.STOPS),
        ("u@host:/x /ssh fuse.sshfs defaults 0 0", Sort.NETWORK, Effect.WAITS),
        ("sshfs#u@host:/x /ssh fuse defaults 0 0", Sort.NETWORK, Effect.WAITS),
        ("/mnt/a:/mnt/b /srv fuse.mergerfs defaults 0 0", Sort.NETWORK, Effect.STOPS),
        ("/dev/sdb1 /ntfs fuse.ntfs-3g defaults 0 0", Sort.DEVICE, Effect.STOPS),
        ("tank/home /home zfs defaults 0 0", Sort.DATASET, Effect.STOPS),
        ("/dev/sr0 /media/cdrom udf,iso9660 user,noauto 0 0", Sort.DEVICE, Effect.UNUSED),
    ],
)
def test_a_line_of_fstab_says_what_the_start_does_without_it(line: str, sort: Sort, effect: Effect) -> None:
    found = one(line)
    assert (found.sort, found.effect) == (sort, effect)


def test_a_line_is_taken_apart_as_its_readers_do() -> None:
    text = (
        "# a comment\n\nUUID=1\\0402\t/my\\040data//x/ btrfs subvol=@old,subvol=@home,ro 0 2\r\nUUID=x\n"
        "\x0bLABEL=\\303\\244 /a ext4\n"
    )
    first, second = mounts.mounts(text)
    assert (first.line, first.device, first.point, first.kind) == (3, "UUID=1 2", "/my data/x", "btrfs")
    assert (first.subvolume, first.fsck, first.early, first.forever) == ("@home", True, False, False)
    assert (second.line, second.device, second.options, second.fsck) == (5, "LABEL=ä", ("defaults",), False)
    assert one("UUID=1 /usr xfs defaults 0 0").early and one("UUID=1 /x xfs x-initrd.mount 0 0").early
    assert one("UUID=1 /x xfs x-systemd.device-timeout=0 0 0").forever
    assert one('UUID="ab" // xfs').point == "/"


def test_tables_beyond_all_bounds_are_refused() -> None:
    with pytest.raises(Exceeded, match="line"):
        list(mounts.mounts("UUID=1 /x xfs\n" * (mounts.MAX_LINES + 1)))
    with pytest.raises(Exceeded, match="line"):
        list(openings("a UUID=1\n" * (crypttab.MAX_LINES + 1)))


@pytest.mark.parametrize(
    ("line", "key", "effect"),
    [
        ("home UUID=1", Key.PASSPHRASE, Effect.WAITS),
        ("home UUID=1 none luks", Key.PASSPHRASE, Effect.WAITS),
        ("home UUID=1 - luks,nofail", Key.PASSPHRASE, Effect.GOES_ON),
        ("home UUID=1 /etc/keys/home luks,noauto", Key.FILE, Effect.UNUSED),
        ("swap /dev/sda3 /dev/urandom swap,cipher=aes-xts-plain64", Key.RANDOM, Effect.WAITS),
        ("home UUID=1 - tpm2-device=auto", Key.TPM, Effect.WAITS),
        ("home UUID=1 - fido2-device=auto", Key.TOKEN, Effect.WAITS),
        ("home UUID=1 /dev/disk/by-label/usb:/k luks,keyscript=/lib/passdev", Key.SCRIPT, Effect.WAITS),
    ],
)
def test_a_line_of_crypttab_says_where_the_key_comes_from(line: str, key: Key, effect: Effect) -> None:
    (found,) = openings(f"# name device key options\n{line}\n")
    assert (found.line, found.key, found.effect) == (2, key, effect)


def test_what_is_opened_is_named_by_crypttab_and_by_the_kernels_command_line() -> None:
    lines = openings('home UUID="1-2" none\ndata /dev/vg/data none\n')
    arguments = (
        "rd.luks.name=aa-bb=root",
        "rd.luks.uuid=luks-cc",
        "luks.uuid=dd",
        "cryptdevice=UUID=ee:arch:allow-discards",
        "rd.luks.name=ff=home",
        "root=/dev/mapper/root",
    )
    assert crypttab.mapped(lines, arguments) == {
        "home": "UUID=1-2",
        "data": "/dev/vg/data",
        "root": "UUID=aa-bb",
        "luks-cc": "UUID=cc",
        "luks-dd": "UUID=dd",
        "arch": "UUID=ee",
    }


@pytest.mark.parametrize(
    ("kind", "held", "takes"),
    [
        ("ext4", "ext4", True),
        ("ext4", "ext3", True),
        ("xfs", "ext4", False),
        ("ext4", "btrfs", False),
        ("auto", "xfs", True),
        ("udf,iso9660", "ext4", True),
        ("xfs,ext4", "ext2", True),
        ("vfat", "vfat", True),
        ("msdos", "vfat", True),
        ("ntfs-3g", "ntfs", True),
        ("fuseblk", "ntfs", True),
        ("swap", "ext4", False),
        ("swap", "swap", True),
        ("ext4", "swap", False),
        ("zonefs", "ext4", True),
        ("ext4", "something", True),
        ("auto", "crypto_LUKS", False),
        ("ext4", "crypto_LUKS", False),
    ],
)
def test_what_a_line_can_have_mounted(kind: str, held: str, takes: bool) -> None:
    assert one(f"UUID=1 /srv {kind} defaults 0 0").takes(held) is takes
