"""AlmaLinux, Rocky and Oracle Linux, as their installers lay them out: in a thin pool, on mirrors, with two kernels."""

from __future__ import annotations

from systems import kernels, loaders
from systems.cases import Case, Said, add, flawed, fstab, release, sound, uid
from systems.distributions.redhat import E9, IMAGES, MACHINE_ID, SERIAL, XFS_MIB, bios, bls_config, entries, lines_of
from systems.machine import LVM, Array, Core, Disk, Fs, Group, Kernel, Link, Logical, Machine, Member, Part, Physical

# AlmaLinux 9 with its root in a thin pool

THIN_POOL = (
    'type = "thin-pool"\nmetadata = "pool00_tmeta"\npool = "pool00_tdata"\ntransaction_id = 1\nchunk_size = 128\n'
    'discards = "passdown"\nzero_new_blocks = 1'
)
THIN = 'type = "thin"\nthin_pool = "pool00"\ntransaction_id = 0\ndevice_id = 1'


def thin_pool(mib: int) -> dict[str, Logical]:
    """A pool and what belongs to it."""
    return {
        "pool00": Logical(Fs("", mib=mib), segment=THIN_POOL),
        "pool00_tdata": Logical(Fs("", mib=mib), hidden=True),
        "pool00_tmeta": Logical(Fs("", mib=4), hidden=True),
        "lvol0_pmspare": Logical(Fs("", mib=4), hidden=True),
    }


def alma9_thin() -> Machine:
    boot = Fs("xfs", uid("alma9 boot"), mounts={"/boot": ""})
    volumes = thin_pool(400) | {
        "root": Logical(Fs("xfs", uid("alma9 root"), mib=XFS_MIB), segment=THIN),
        "swap": Logical(Fs("swap", uid("alma9 swap"), mib=32)),
    }
    machine = Machine(
        "alma9",
        "bios",
        [
            Disk(
                1300,
                core=Core("(,msdos1)/grub2"),
                parts=[
                    Part(boot, XFS_MIB, active=True),
                    Part(Physical("almalinux"), 0, LVM),
                ],
            )
        ],
        groups={"almalinux": Group(volumes)},
    )
    kernels.install(machine, E9, **IMAGES, packing="early+zstd")
    options = f"root=/dev/mapper/almalinux-root ro rd.lvm.lv=almalinux/root {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", bls_config(uid("alma9 boot"), options))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(saved_entry=f"{MACHINE_ID}-{E9}")
    entries(machine, [E9], "AlmaLinux", options)
    return machine


def _root_names_a_volume_that_is_not_there(machine: Machine) -> None:
    path = f"/boot/loader/entries/{MACHINE_ID}-{E9}.conf"
    machine.change(path, "root=/dev/mapper/almalinux-root", "root=/dev/mapper/almalinux-root_old")


def _the_saved_entrys_kernel_is_gone(machine: Machine) -> None:
    path = next(path for path, file in machine.files.items() if file == Kernel(E9) and "rescue" not in path)
    machine.drop(path)


# Rocky 9 on two disks, mirrored


def rocky9_mirror() -> Machine:
    boot, root = uid("rocky9 boot"), uid("rocky9 root")

    def disk() -> Disk:
        return Disk(
            620,
            core=Core("(mduuid/0f6a6b4e7e4b4d0fa2a1b3c4d5e6f708)/grub2"),
            parts=[
                Part(Member("boot"), 180, "fd", active=True),
                Part(Member("root"), 0, "fd"),
            ],
        )

    machine = Machine(
        "rocky9",
        "bios",
        [disk(), disk()],
        arrays={
            "boot": Array(
                1,
                Fs("ext4", boot, mounts={"/boot": ""}),
                "1.2",
                name="rocky:boot",
                uuid="0f6a6b4e-7e4b-4d0f-a2a1-b3c4d5e6f708",
            ),
            "root": Array(
                1,
                Fs("xfs", root, mounts={"/": ""}),
                "1.2",
                name="rocky:root",
                uuid="1f6a6b4e-7e4b-4d0f-a2a1-b3c4d5e6f708",
            ),
        },
    )
    release(machine, "rocky", "9.4", "rhel centos fedora")
    kernels.install(machine, E9, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+zstd")
    machine.files["/lib"] = Link("usr/lib")
    options = f"root=UUID={root} ro rd.md.uuid=1f6a6b4e:7e4b4d0f:a2a1b3c4:d5e6f708 {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", bls_config(boot, options, hint="mduuid/0f6a6b4e7e4b4d0fa2a1b3c4d5e6f708"))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(saved_entry=f"{MACHINE_ID}-{E9}")
    entries(machine, [E9], "Rocky Linux", options)
    fstab(
        machine,
        f"UUID={root} / xfs defaults 0 0",
        f"UUID={boot} /boot ext4 defaults 1 2",
        "/dev/disk/by-id/md-uuid-1f6a6b4e:7e4b4d0f:a2a1b3c4:d5e6f708 /mnt/again xfs noauto 0 0",
    )
    return machine


def _fstab_wants_an_array_that_is_elsewhere(machine: Machine) -> None:
    add(machine, "/dev/disk/by-id/md-uuid-9f6a6b4e:7e4b4d0f:a2a1b3c4:d5e6f708 /srv xfs defaults 0 0")


def _a_half_of_a_striped_array_is_missing(machine: Machine) -> None:
    machine.disks.append(Disk(200, parts=[Part(Member("data"), 0, "fd")]))
    machine.arrays["data"] = Array(
        0, Fs("ext4", uid("rocky9 data")), "1.2", 2, "rocky:data", "2f6a6b4e-7e4b-4d0f-a2a1-b3c4d5e6f708"
    )
    add(machine, f"UUID={uid('rocky9 data')} /srv ext4 defaults 0 2")


def _a_striped_array_is_whole(machine: Machine) -> None:
    _a_half_of_a_striped_array_is_missing(machine)
    machine.disks.append(Disk(200, parts=[Part(Member("data"), 0, "fd")]))


# Oracle Linux 8: two kernels, UEK saved

UEK, RHCK = "5.15.0-206.153.7.1.el8uek.x86_64", "4.18.0-553.el8_10.x86_64"


def oracle8() -> Machine:
    machine = bios("oracle8", "ol", "ext4")
    release(machine, "ol", "8.10", "fedora")
    for version in (UEK, RHCK):
        kernels.install(machine, version, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+gzip")
    machine.files["/lib"] = Link("usr/lib")
    options = f"root=/dev/mapper/ol-root ro crashkernel=auto rd.lvm.lv=ol/root {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", bls_config(uid("oracle8 boot"), options))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(
        saved_entry=f"{MACHINE_ID}-{UEK}", kernelopts=options
    )
    entries(machine, [UEK, RHCK], "Oracle Linux Server", "$kernelopts")
    lines_of(machine, "ol", kind="ext4")
    return machine


def _the_saved_kernel_is_the_other_which_lacks_ena(machine: Machine) -> None:
    options = f"root=/dev/mapper/ol-root ro {SERIAL}"
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(
        saved_entry=f"{MACHINE_ID}-{RHCK}", kernelopts=options
    )
    machine.drop(f"/usr/lib/modules/{RHCK}/")
    kernels.drivers(machine, RHCK, home="/usr/lib/modules", packing=".xz", ena="none")


CASES: list[Case] = [
    sound(
        "AlmaLinux 9 in a thin pool",
        alma9_thin,
        Said("system-unread"),
        also=("drivers-unread", "root-unseen", "volume-unread"),
    ),
    flawed(
        "AlmaLinux 9 in a thin pool",
        alma9_thin,
        _root_names_a_volume_that_is_not_there,
        Said("root-unknown", "", "root_old"),
        also=("drivers-unread", "root-unseen", "volume-unread"),
    ),
    flawed(
        "AlmaLinux 9 in a thin pool",
        alma9_thin,
        _the_saved_entrys_kernel_is_gone,
        Said("kernel-missing"),
        also=("system-unread", "drivers-unread", "root-unseen", "volume-unread"),
    ),
    sound("Rocky 9 on a mirror", rocky9_mirror),
    flawed(
        "Rocky 9 on a mirror",
        rocky9_mirror,
        _fstab_wants_an_array_that_is_elsewhere,
        Said("fstab-unknown", "line 5", "9f6a6b4e"),
    ),
    flawed(
        "Rocky 9 on a mirror", rocky9_mirror, _a_half_of_a_striped_array_is_missing, Said("fstab-unknown", "line 5")
    ),
    Case("Rocky 9 on a mirror, with a striped array that is whole", rocky9_mirror, _a_striped_array_is_whole),
    sound("Oracle Linux 8", oracle8),
    flawed("Oracle Linux 8", oracle8, _the_saved_kernel_is_the_other_which_lacks_ena, Said("ena-missing", RHCK)),
]
