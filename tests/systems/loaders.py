"""Boot loaders as systems install them: GRUB's images, shim and its helpers, systemd-boot, SYSLINUX, and what their
configurations look like; owns no machine."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import bootdisk
from bootdisk import run
from systems.machine import Core

_GRUB = Path("/usr/lib/grub")
_COMMON = (
    "normal",
    "linux",
    "part_msdos",
    "part_gpt",
    "ext2",
    "fat",
    "search",
    "search_fs_uuid",
    "search_fs_file",
    "search_label",
    "configfile",
    "loadenv",
    "serial",
    "terminal",
    "echo",
    "test",
    "minicmd",
    "gzio",
    "true",
    "regexp",
    "sleep",
)
_STORES = ("xfs", "btrfs", "lvm", "diskfilter", "mdraid1x", "mdraid09")


def core(of: Core) -> bytes:
    """A core image for the BIOS, with its list of blocks not yet filled in."""
    image = _core(of.prefix, of.early, of.modules, of.few)
    assert len(image) < 2047 * bootdisk.SECTOR_BYTES
    return image


@functools.cache
def _core(prefix: str, early: str, modules: tuple[str, ...], few: bool) -> bytes:
    usual = ("part_msdos", "ext2") if few else (*_COMMON, *_STORES)
    return _image("i386-pc", prefix, early, ("biosdisk", *usual, *modules))


@functools.cache
def grub_efi(prefix: str, early: str = "") -> bytes:
    """An EFI image of GRUB. early: the configuration that is embedded; none where a stub on the ESP is read."""
    return _image("x86_64-efi", prefix, early, (*_COMMON, *_STORES, "all_video", "chain"))


def _image(platform: str, prefix: str, early: str, modules: Iterable[str]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "image"
        words: list[object] = ["-O", platform, "-d", _GRUB / platform, "-p", prefix, "-o", out]
        if early:
            config = Path(folder) / "early.cfg"
            config.write_text(early)
            words += ["-c", config]
        run("grub-mkimage", *words, *modules)
        return out.read_bytes()


def shim(loader: str = "grubx64.efi") -> bytes:
    """Debian's shim. loader: what it starts next; other systems' shims are built with another name in that place."""
    data = _signed("shim-signed", "usr/lib/shim/shimx64.efi.signed")
    if loader == "grubx64.efi":
        return data
    old, new = "\\grubx64.efi\0".encode("utf-16le"), f"\\{loader}\0".encode("utf-16le")
    assert data.count(old) == 1 and len(new) <= len(old)
    return data.replace(old, new.ljust(len(old), b"\0"))


def fallback() -> bytes:
    return _signed("shim-helpers-amd64-signed", "usr/lib/shim/fbx64.efi.signed")


def mok_manager() -> bytes:
    return _signed("shim-helpers-amd64-signed", "usr/lib/shim/mmx64.efi.signed")


def debians_grub() -> bytes:
    """As it is signed: its prefix is /EFI/debian, wherever it lies."""
    return _signed("grub-efi-amd64-signed", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")


def systemd_boot() -> bytes:
    return _signed("systemd-boot-efi", "usr/lib/systemd/boot/efi/systemd-bootx64.efi")


def syslinux_mbr(*, gpt: bool = False) -> bytes:
    return _signed("extlinux", f"usr/lib/EXTLINUX/{'gpt' if gpt else ''}mbr.bin")


@functools.cache
def _signed(package: str, path: str) -> bytes:
    return (bootdisk._unpacked(package) / path).read_bytes()


def stub(uuid: str, prefix: str = "/boot/grub", *, root_dev_only: bool = False) -> str:
    """The small grub.cfg beside an EFI image, which leads to the system's own."""
    if root_dev_only:  # Red Hat's and Fedora's
        return (
            f"search --no-floppy --root-dev-only --fs-uuid --set=dev {uuid}\nset prefix=($dev){prefix}\n"
            "export $prefix\nconfigfile $prefix/grub.cfg\n"
        )
    return f"search.fs_uuid {uuid} root hd0,gpt2 \nset prefix=($root)'{prefix}'\nconfigfile $prefix/grub.cfg\n"


@dataclass(frozen=True, slots=True)
class Start:
    """An entry of a menu: which kernel, by the paths that the loader sees, and its command line."""

    title: str
    kernel: str
    initrd: str
    cmdline: str
    identity: str = ""


def grub_header(default: str = "0", *, environment: str = "$prefix/grubenv", timeout: int = 1) -> str:
    """What grub-mkconfig writes first. default: as GRUB_DEFAULT makes it, `${saved_entry}` for saved."""
    return f"""if [ -s {environment} ]; then
  set have_grubenv=true
  load_env
fi
if [ "${{next_entry}}" ] ; then
   set default="${{next_entry}}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="{default}"
fi
if [ x"${{feature_menuentry_id}}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
function savedefault {{
  if [ -z "${{boot_once}}" ]; then
    saved_entry="${{chosen}}"
    save_env saved_entry
  fi
}}
function load_video {{
  true
}}
terminal_output console
if [ x$feature_timeout_style = xy ] ; then
  set timeout_style=menu
  set timeout={timeout}
else
  set timeout={timeout}
fi
"""


def grub_root(uuid: str, hint: str = "hd0,msdos1") -> str:
    """How grub-mkconfig finds a file system."""
    return f"""set root='{hint}'
if [ x$feature_platform_search_hint = xy ]; then
  search --no-floppy --fs-uuid --set=root --hint-bios={hint} --hint-efi={hint} {uuid}
else
  search --no-floppy --fs-uuid --set=root {uuid}
fi
"""


def grub_entry(start: Start, root: str, *, command: str = "linux", initrd: str = "initrd", inner: str = "") -> str:
    identity = start.identity or f"gnulinux-{start.title}"
    loads = f"\tinitrd\t{start.initrd}\n".replace("initrd", initrd, 1) if start.initrd else ""
    body = "".join(f"\t{line}\n" for line in root.splitlines())
    return (
        f"menuentry '{start.title}' --class gnu-linux --class os --unrestricted $menuentry_id_option '{identity}' {{\n"
        f"\tload_video\n\tinsmod gzio\n\tinsmod part_msdos\n{body}{inner}\techo\t'Loading Linux ...'\n"
        f"\t{command}\t{start.kernel} {start.cmdline}\n{loads}}}\n"
    )


def grub_submenu(title: str, identity: str, entries: Iterable[str]) -> str:
    inside = "".join(entries)
    return f"submenu '{title}' $menuentry_id_option '{identity}' {{\n{inside}}}\n"


def grub_environment(**variables: str) -> bytes:
    """A grubenv: of 1024 bytes, as GRUB wants it."""
    text = "# GRUB Environment Block\n" + "".join(f"{name}={value}\n" for name, value in variables.items())
    return text.encode().ljust(1024, b"#")


def bls(start: Start, version: str, **more: str) -> bytes:
    """An entry of the Boot Loader Specification. more: other keys, underscores for hyphens."""
    lines = [f"title {start.title}", f"version {version}", f"linux {start.kernel}"]
    lines += [f"initrd {start.initrd}"] if start.initrd else []
    lines += [f"options {start.cmdline}"] + [f"{key.replace('_', '-')} {value}" for key, value in more.items()]
    return ("\n".join(lines) + "\n").encode()


def boot_csv(loader: str, title: str) -> bytes:
    """BOOTX64.CSV, which shim's fallback makes boot entries of."""
    return b"\xff\xfe" + f"{loader},{title},,This is the boot entry for {title}\n".encode("utf-16le")
