"""Fedora, Amazon Linux and Fedora CoreOS, as their installers and images lay them out."""

from __future__ import annotations

from systems import kernels, loaders
from systems.cases import Case, Said, add, esp, flawed, fstab, release, short_uid, sound, uid
from systems.distributions.redhat import IMAGES, MACHINE_ID, SERIAL, bls_config, entries, shim
from systems.loaders import Start
from systems.machine import BIOS_BOOT_TYPE, Core, Disk, Fs, Initramfs, Kernel, Link, Machine, Part

# Fedora: UEFI, /boot on ext4, the rest on Btrfs

F40 = "6.8.5-301.fc40.x86_64"


def fedora() -> Machine:
    boot, root = uid("fedora boot"), uid("fedora root")
    machine = Machine(
        "fedora40",
        "uefi",
        [
            Disk(
                640,
                "gpt",
                [
                    Part(esp("fedora40"), 48, "U"),
                    Part(Fs("ext4", boot, mounts={"/boot": ""}), 160),
                    Part(Fs("btrfs", root, label="fedora", mounts={"/": "/root", "/home": "/home"}), 0),
                ],
            )
        ],
    )
    release(machine, "fedora", "40")
    kernels.install(machine, F40, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+zstd")
    machine.files["/lib"] = Link("usr/lib")
    options = f"root=UUID={root} ro rootflags=subvol=root rhgb quiet {SERIAL}"
    machine.put("/boot/grub2/grub.cfg", bls_config(boot, options, hint="hd0,gpt2"))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(boot_success="1", boot_indeterminate="0")
    entries(machine, [F40], "Fedora Linux", options)
    shim(machine, "fedora", boot)
    machine.put("/home/user/.profile", "\n")
    fstab(
        machine,
        f"UUID={root} /                       btrfs   subvol=root,compress=zstd:1 0 0",
        f"UUID={boot} /boot                   ext4    defaults        1 2",
        f"UUID={short_uid('fedora40 esp')}          /boot/efi               vfat    umask=0077,shortname=winnt 0 2",
        f"UUID={root} /home                   btrfs   subvol=home,compress=zstd:1 0 0",
    )
    return machine


def _the_entrys_root_is_that_of_a_restored_disk(machine: Machine) -> None:
    machine.change(f"/boot/loader/entries/{MACHINE_ID}-{F40}.conf", uid("fedora root"), uid("the fedora before"))


def _boot_was_formatted_anew(machine: Machine) -> None:
    machine.change("/etc/fstab", uid("fedora boot"), uid("the boot before"))


# Amazon Linux, as its images for VMware


def amazon2() -> Machine:
    root = uid("amazon2 root")
    machine = Machine(
        "amazon2",
        "bios",
        [
            Disk(
                420,
                "gpt",
                [
                    Part(Core("(,gpt2)/boot/grub2"), 1, BIOS_BOOT_TYPE, name="BIOS Boot Partition"),
                    Part(Fs("xfs", root, label="/", mounts={"/": ""}), 0, name="Linux"),
                ],
            )
        ],
    )
    release(machine, "amzn", "2", "centos rhel fedora")
    version = "4.14.336-257.562.amzn2.x86_64"
    kernels.install(machine, version, **IMAGES, packing="gzip")
    start = Start(
        f"Amazon Linux 2 ({version})",
        f"/boot/vmlinuz-{version}",
        f"/boot/initramfs-{version}.img",
        f"root=UUID={root} ro {SERIAL} net.ifnames=0 biosdevname=0 nvme_core.io_timeout=4294967295",
    )
    text = loaders.grub_header("0") + loaders.grub_entry(start, loaders.grub_root(root, "hd0,gpt2"))
    machine.put("/boot/grub2/grub.cfg", text)
    fstab(machine, "LABEL=/     /           xfs    defaults,noatime  1   1")
    return machine


def _an_optional_volume_by_label_is_not_there(machine: Machine) -> None:
    add(machine, "LABEL=my\\040data /data xfs defaults,nofail 0 2")


def _its_label_was_changed(machine: Machine) -> None:
    machine.change("/etc/fstab", "LABEL=/ ", "LABEL=root ")


def amazon2023() -> Machine:
    root = uid("amazon2023 root")
    machine = Machine(
        "amazon2023",
        "uefi",
        [
            Disk(
                420,
                "gpt",
                [
                    Part(Fs("xfs", root, label="/", mounts={"/": ""}), 360, name="Linux", uuid=uid("amazon2023 part")),
                    Part(esp("amazon2023"), 0, "U", name="EFI System Partition"),
                ],
            )
        ],
    )
    release(machine, "amzn", "2023", "fedora")
    version = "6.1.90-99.173.amzn2023.x86_64"
    kernels.install(machine, version, **IMAGES, home="/usr/lib/modules", modules=".xz", packing="early+zstd")
    machine.files["/lib"] = Link("usr/lib")
    options = f"root=PARTUUID={uid('amazon2023 part')} ro {SERIAL} rd.shell=0"
    machine.put("/boot/grub2/grub.cfg", bls_config(root, options, hint="hd0,gpt1"))
    machine.files["/boot/grub2/grubenv"] = loaders.grub_environment(saved_entry=f"{MACHINE_ID}-{version}")
    entries(machine, [version], "Amazon Linux", options, folder="/boot", rescue=False)
    early = f"search --no-floppy --set prefix --fs-uuid {root}\nset prefix=($prefix)/boot/grub2\n"
    machine.files["/boot/efi/EFI/BOOT/BOOTX64.EFI"] = loaders.grub_efi("/EFI/BOOT")
    machine.put("/boot/efi/EFI/BOOT/grub.cfg", f"{early}configfile $prefix/grub.cfg\n")
    fstab(
        machine,
        f"UUID={root} / xfs defaults,noatime 1 1",
        f"UUID={short_uid('amazon2023 esp')} /boot/efi vfat defaults,noatime,uid=0,gid=0,umask=0077 0 2",
    )
    return machine


def _root_is_the_partition_of_another_disk(machine: Machine) -> None:
    (path,) = (path for path in machine.files if path.endswith("amzn2023.x86_64.conf"))
    machine.change(path, uid("amazon2023 part"), uid("another part"))


# Fedora CoreOS: OSTree

_DEPLOYED = "9c0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8"


def coreos() -> Machine:
    boot, root = uid("coreos boot"), uid("coreos root")
    machine = Machine(
        "coreos",
        "uefi",
        [
            Disk(
                640,
                "gpt",
                [
                    Part(Core("(,gpt3)/grub2"), 1, BIOS_BOOT_TYPE, name="BIOS-BOOT"),
                    Part(esp("coreos"), 48, "U", name="EFI-SYSTEM"),
                    Part(Fs("ext4", boot, label="boot", mounts={"/boot": ""}), 160, name="boot"),
                    Part(Fs("xfs", root, label="root", mounts={"/": ""}), 0, name="root"),
                ],
            )
        ],
    )
    version = "6.8.11-300.fc40.x86_64"
    deploy = f"/ostree/deploy/fedora-coreos/deploy/{_DEPLOYED}.0"
    names = kernels.drivers(machine, version, home=f"{deploy}/usr/lib/modules", packing=".xz")
    folder = f"/ostree/fedora-coreos-{_DEPLOYED}"
    machine.files |= {
        f"/boot{folder}/vmlinuz-{version}": Kernel(version),
        f"/boot{folder}/initramfs-{version}.img": Initramfs(version, names, "early+zstd"),
        "/boot/loader": Link("loader.1"),
        f"/ostree/boot.1/fedora-coreos/{_DEPLOYED}/0": Link(f"../../../deploy/fedora-coreos/deploy/{_DEPLOYED}.0"),
        f"{deploy}/etc/os-release": b'ID="fedora"\nVARIANT_ID="coreos"\n',
        "/boot/boot": Link("."),
    }
    start = Start(
        "Fedora CoreOS 40 (ostree:0)",
        f"/boot{folder}/vmlinuz-{version}",
        f"/boot{folder}/initramfs-{version}.img",
        f"rw ignition.platform.id=vmware ostree=/ostree/boot.1/fedora-coreos/{_DEPLOYED}/0 root=UUID={root} "
        f"rootflags=prjquota boot=UUID={boot} {SERIAL}",
    )
    machine.files["/boot/loader.1/entries/ostree-1.conf"] = loaders.bls(start, "1")
    text = (
        f"set pager=1\nset timeout=1\nsearch --label boot --set prefix\nset prefix=($prefix)/grub2\n"
        f"if [ -s $prefix/grubenv ]; then\n  load_env\nfi\nset boot=$root\nsearch --fs-uuid {boot} --set root\n"
        "blscfg\n"
    )
    machine.put("/boot/grub2/grub.cfg", text)
    machine.files["/boot/efi/EFI/BOOT/BOOTX64.EFI"] = loaders.grub_efi("/EFI/fedora")
    machine.put(
        "/boot/efi/EFI/fedora/grub.cfg",
        "if [ -e (md/md-boot) ]; then\n  set prefix=md/md-boot\nelse\n"
        "  if [ -f ${config_directory}/bootuuid.cfg ]; then\n    source ${config_directory}/bootuuid.cfg\n  fi\n"
        '  if [ -n "${BOOT_UUID}" ]; then\n    search --fs-uuid "${BOOT_UUID}" --set prefix --no-floppy\n'
        "  else\n    search --label boot --set prefix --no-floppy\n  fi\nfi\n"
        "set prefix=($prefix)/grub2\nconfigfile $prefix/grub.cfg\nboot\n",
    )
    machine.put("/boot/efi/EFI/fedora/bootuuid.cfg", f"BOOT_UUID={boot}\n")
    return machine


def _its_root_was_made_anew(machine: Machine) -> None:
    machine.change(
        "/boot/loader.1/entries/ostree-1.conf", f"root=UUID={uid('coreos root')}", f"root=UUID={uid('coreos before')}"
    )


CASES: list[Case] = [
    sound("Fedora 40", fedora, quick=True),
    flawed(
        "Fedora 40",
        fedora,
        _the_entrys_root_is_that_of_a_restored_disk,
        Said("root-unknown", F40, uid("the fedora before")),
    ),
    flawed("Fedora 40", fedora, _boot_was_formatted_anew, Said("fstab-unknown", "line 3", uid("the boot before"))),
    sound("Amazon Linux 2", amazon2, drill=True),
    flawed("Amazon Linux 2", amazon2, _an_optional_volume_by_label_is_not_there, Said("fstab-optional", "line 3")),
    flawed("Amazon Linux 2", amazon2, _its_label_was_changed, Said("fstab-unknown", "line 2", "LABEL=root")),
    sound("Amazon Linux 2023", amazon2023),
    flawed(
        "Amazon Linux 2023", amazon2023, _root_is_the_partition_of_another_disk, Said("root-unknown", "", "PARTUUID=")
    ),
    sound("Fedora CoreOS", coreos, also=("drivers-unread", "system-unread", "root-unseen")),
    flawed(
        "Fedora CoreOS",
        coreos,
        _its_root_was_made_anew,
        Said("root-unknown"),
        also=("drivers-unread", "root-unseen", "system-unread"),
    ),
]
