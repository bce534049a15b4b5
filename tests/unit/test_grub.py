"""What GRUB starts by itself: its script, its menus and defaults, as distributions and people write them."""

from __future__ import annotations

import random

import pytest

from rigs.guests.guesttrees import Machines, Tree
from warmspare.recover.readiness.answers import ABSENT, Unknown
from warmspare.recover.readiness.guest.entries import Entry, FilePlace
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.loaders.grub.bounds import Bounds
from warmspare.recover.readiness.loaders.grub.language import conditions, script
from warmspare.recover.readiness.loaders.grub.language.grub_values import Doubt, environment
from warmspare.recover.readiness.loaders.grub.language.nodes import Command
from warmspare.recover.readiness.loaders.grub.language.script import NoScript
from warmspare.recover.readiness.loaders.grub.start import Core, by_config, start
from warmspare.recover.readiness.loaders.started import Started

CONFIG = "/boot/grub/grub.cfg"
UNREADABLE = Unknown("this file system can't be read")
U1, U2 = "11111111-94a1-4d0e-a1f5-5b7c3f1f2a31", "22222222-94a1-4d0e-a1f5-5b7c3f1f2a31"


def started(
    config: str,
    more: dict[str, str | bytes | Unknown] | None = None,
    *,
    platform: str = "pc",
    others: dict[str, GuestFiles | Unknown] | None = None,
) -> Started:
    files: dict[str, str | bytes | Unknown] = {CONFIG: "set timeout=5\n" + config, **(more or {})}
    return by_config(Machines(Tree(files), others), CONFIG, platform=platform)


def entry(got: Started) -> Entry:
    assert isinstance(got.entry, Entry), (got.entry, got.how)
    return got.entry


def root(config: str, more: dict[str, str | bytes | Unknown] | None = None) -> str | None:
    return entry(started(config, more)).root


def block(title: str, root: str, *options: str) -> str:
    return f"menuentry '{title}' {' '.join(options)} {{\n linux /vmlinuz root={root} ro\n initrd /initrd\n}}\n"


def grubenv(**variables: str) -> bytes:
    text = "# GRUB Environment Block\n" + "".join(f"{name}={value}\n" for name, value in variables.items())
    return text.encode().ljust(1024, b"#")


ABC = block("A", "a", "--id ia") + block("B", "b", "--id ib") + block("C", "c", "--id ic")


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        ("", "a"),
        ("set default=0", "a"),
        ("set default=1", "b"),
        ('set default="2"', "c"),
        ("set default=ib", "b"),
        ("set default=C", "c"),
        ("set default='1 what follows'", "b"),
        ("set default=0x2", "c"),
        ("default=1", "b"),
        ("set default=7", "a"),
        ("set default=nothing", "a"),
        ("set default='1>9'", "b"),
        ("set default=02", "c"),
    ],
)
def test_the_default_by_number_by_title_and_by_id(default: str, expected: str) -> None:
    assert root(f"{default}\n{ABC}") == expected


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ('eval "set default=1"', "b"),
        ("set x='set default=2'\neval $x", "c"),
        ("set x=1\nincrement x\nset default=$x", "c"),
        ("set x=2\ndecrement x\nset default=$x", "b"),
        ("increment x\nset default=$x", "a"),
    ],
)
def test_commands_that_change_variables(commands: str, expected: str) -> None:
    assert root(f"{commands}\n{ABC}") == expected


def test_what_eval_is_given_may_be_no_script_or_not_known() -> None:
    for commands in ('eval "if true"', "hwmatch a 1\neval set default=$match"):
        assert isinstance(started(f"{commands}\n{ABC}").entry, Unknown)


def test_a_default_that_names_nothing_says_so() -> None:
    for text in ("set default=gone", "set default=9"):
        assert "takes the first then" in started(f"{text}\n{ABC}").how


def test_a_default_that_begins_with_digits_and_is_no_number() -> None:
    """GRUB's older versions count by these digits, newer ones take the name."""
    config = block("A", "a") + block("1st of all", "b") + block("2nd of all", "c")
    assert root(f'set default="1st of all"\n{config}') == "b"  # both say so
    got = started(f'set default="2nd of all"\n{block("2nd of all", "x")}{config}')
    assert isinstance(got.entry, Unknown) and "digits" in got.entry.why


SUBMENU = block("A", "a") + "submenu 'More' --id more {\n" + block("X", "x", "--id ix") + block("Y>Z", "y") + "}\n"


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        ("1>1", "y"),
        ("1>0", "x"),
        ("more>ix", "x"),
        ("More>X", "x"),
        ("1", "x"),
        ("1>Y>>Z", "y"),
        ("more>5", "x"),
        ("1>", "x"),
    ],
)
def test_a_submenu_by_path(default: str, expected: str) -> None:
    got = entry(started(f"set default='{default}'\n{SUBMENU}"))
    assert got.root == expected and got.title.startswith("More>")


def test_a_submenu_sees_only_what_was_exported() -> None:
    text = (
        "set kept=k\nexport kept\nset lost=l\nset default='0>0'\nsubmenu m { menuentry x { linux /v root=$kept$lost } }"
    )
    assert root(text) == "k"


SAVED = (
    """
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${saved_entry}"
fi
function savedefault {
  if [ -z "${boot_once}" ]; then
    saved_entry="${chosen}"
    save_env saved_entry
  fi
}
"""
    + ABC
)


def test_a_saved_entry() -> None:
    assert root(SAVED, {"/boot/grub/grubenv": grubenv(saved_entry="ib")}) == "b"
    assert root(SAVED, {"/boot/grub/grubenv": grubenv(saved_entry="2")}) == "c"
    assert root(SAVED, {"/boot/grub/grubenv": grubenv()}) == "a"
    assert root(SAVED) == "a"


def test_an_entry_for_the_next_start_alone() -> None:
    got = started(SAVED, {"/boot/grub/grubenv": grubenv(saved_entry="ic", next_entry="ib")})
    assert entry(got).root == "b" and isinstance(got.later, Entry) and got.later.root == "c"
    assert started(SAVED, {"/boot/grub/grubenv": grubenv(saved_entry="ic")}).later is None


def test_an_environment_that_cant_be_read_makes_the_default_unknown() -> None:
    got = started(SAVED, {"/boot/grub/grubenv": UNREADABLE})
    assert isinstance(got.entry, Unknown) and UNREADABLE.why in got.entry.why
    assert root("set default=1\nload_env\nset default=2\n" + ABC, {"/boot/grub/grubenv": UNREADABLE}) == "c"


def test_parts_of_an_environment_and_another_file() -> None:
    more: dict[str, str | bytes | Unknown] = {"/env": grubenv(one="1", default="2")}
    assert root("load_env -f /env one\n" + ABC, more) == "a"
    assert root("load_env --file /env\n" + ABC, more) == "c"
    assert root("set default=1\nload_env --file=/gone\n" + ABC, more) == "b"


def test_an_environment_block_in_reserved_space() -> None:
    """SUSE's, on Btrfs: it is named by its block numbers. What is no environment block is as if there were none."""
    text = 'load_env -f "($root)512+1"\nset default=$saved_entry\n' + ABC
    assert root(text, {"512+1": grubenv(saved_entry="ic")}) == "c"
    assert root(text, {"512+1": bytes(512)}) == "a"
    assert root(text, {CONFIG.replace("grub.cfg", "grubenv"): b"saved_entry=ic\n", "512+1": b"saved_entry=ic\n"}) == "a"
    unread = started(text, {"512+1": UNREADABLE})
    assert isinstance(unread.entry, Unknown) and "can't be read" in unread.entry.why
    other = started('load_env -f "(hd0)512+1,7"\nset default=$saved_entry\n' + ABC)
    assert isinstance(other.entry, Unknown) and "block numbers" in other.entry.why


def test_the_environments_escapes() -> None:
    data = b"# GRUB Environment Block\na=one\\\\two\nb=x\\\ny\nc=1=2\n####"
    assert environment(data) == {"a": "one\\two", "b": "x\ny", "c": "1=2"}


UBUNTU = f"""
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${{initrdfail}}" = 2 ]; then
   set initrdfail=
elif [ "${{initrdfail}}" = 1 ]; then
   set next_entry="${{prev_entry}}"
fi
if [ x"${{feature_menuentry_id}}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
function recordfail {{
  set recordfail=1
  if [ -n "${{have_grubenv}}" ]; then if [ -z "${{boot_once}}" ]; then save_env recordfail; fi; fi
}}
function load_video {{
  if [ x$feature_all_video_module = xy ]; then
    insmod all_video
  else
    insmod efi_gop
  fi
}}
if loadfont unicode ; then
  set gfxmode=auto
  load_video
fi
terminal_output gfxterm
if [ "${{recordfail}}" = 1 ] ; then
  set timeout=30
else
  if [ x$feature_timeout_style = xy ] ; then
    set timeout_style=hidden
    set timeout=0
  fi
fi
function gfxmode {{
	set gfxpayload="${{1}}"
	if [ "${{1}}" = "keep" ]; then
		set vt_handoff=vt.handoff=7
	else
		set vt_handoff=
	fi
}}
if [ "${{recordfail}}" != 1 ]; then
  if [ -e ${{prefix}}/gfxblacklist.txt ]; then
    if [ ${{grub_platform}} != pc ]; then
      set linux_gfx_mode=keep
    elif hwmatch ${{prefix}}/gfxblacklist.txt 3; then
      if [ ${{match}} = 0 ]; then
        set linux_gfx_mode=keep
      else
        set linux_gfx_mode=text
      fi
    else
      set linux_gfx_mode=text
    fi
  else
    set linux_gfx_mode=keep
  fi
else
  set linux_gfx_mode=text
fi
export linux_gfx_mode
menuentry 'Ubuntu' --class ubuntu --class os $menuentry_id_option 'gnulinux-simple-{U1}' {{
	recordfail
	load_video
	gfxmode $linux_gfx_mode
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	insmod part_gpt
	set root='hd0,gpt2'
	if [ x$feature_platform_search_hint = xy ]; then
		search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 --hint-efi=hd0,gpt2 --hint='hd0,gpt2'  {U1}
	else
		search --no-floppy --fs-uuid --set=root {U1}
	fi
	linux	/boot/vmlinuz-6.8.0-40-generic root=UUID={U1} ro  quiet splash $vt_handoff
	initrd	/boot/initrd.img-6.8.0-40-generic
}}
submenu 'Advanced options for Ubuntu' $menuentry_id_option 'gnulinux-advanced-{U1}' {{
	menuentry 'Ubuntu, with Linux 6.8.0-31-generic' $menuentry_id_option 'gnulinux-6.8.0-31-generic-advanced-{U1}' {{
		recordfail
		gfxmode $linux_gfx_mode
		search --no-floppy --fs-uuid --set=root {U1}
		echo	'Loading Linux 6.8.0-31-generic ...'
		linux	/boot/vmlinuz-6.8.0-31-generic root=UUID={U1} ro  quiet $vt_handoff
		initrd	/boot/initrd.img-6.8.0-31-generic
	}}
}}
if [ "$grub_platform" = "efi" ]; then
	fwsetup --is-supported
	if [ "$?" = 0 ]; then
		menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {{
			fwsetup
		}}
	fi
fi
if [ -f  ${{config_directory}}/custom.cfg ]; then
  source ${{config_directory}}/custom.cfg
elif [ -z "${{config_directory}}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"""


def test_ubuntus_configuration() -> None:
    """Its graphics depend on the card, and what is started does not."""
    others: dict[str, GuestFiles | Unknown] = {f"uuid:{U1}": Tree({})}
    got = started(UBUNTU, {"/boot/grub/gfxblacklist.txt": "x"}, others=others)
    device = f"uuid:{U1}"
    line = ("set timeout=5\n" + UBUNTU).partition("linux\t")[0].count("\n") + 1
    assert entry(got) == Entry(
        f"{CONFIG} line {line}",
        "Ubuntu",
        FilePlace(device, "/boot/vmlinuz-6.8.0-40-generic"),
        (FilePlace(device, "/boot/initrd.img-6.8.0-40-generic"),),
        (f"root=UUID={U1}", "ro", "quiet", "splash"),
    )
    assert got.waits == "" and got.config == FilePlace("", CONFIG)
    assert "vt.handoff=7" in entry(started(UBUNTU, platform="efi", others=others)).arguments
    path = f"set default='gnulinux-advanced-{U1}>gnulinux-6.8.0-31-generic-advanced-{U1}'\n"
    got = started(UBUNTU.replace("if loadfont", path + "if loadfont"), others=others)
    assert entry(got).kernel.path == "/boot/vmlinuz-6.8.0-31-generic"


def test_a_search_that_finds_nothing_leaves_the_device_as_it_was() -> None:
    got = started(UBUNTU)
    assert entry(got).kernel.device == "grub:hd0,gpt2" and got.unfound == (f"uuid:{U1}",)


def test_a_search_among_what_cant_be_read() -> None:
    got = entry(started(UBUNTU, others={f"uuid:{U1}": UNREADABLE}))
    assert got.kernel.device == f"uuid:{U1}"  # whoever resolves it says why


@pytest.mark.parametrize(
    ("command", "device"),
    [
        ("search --label --set=root boot", "label:boot"),
        ("search -l boot --set", "label:boot"),
        ("search.fs_uuid 1234-ABCD root hd0", "uuid:1234-ABCD"),
        ("search --file --set=root /.disk/x", "file:/.disk/x"),
        ("search --no-floppy --set=root -f /.disk/x", "file:/.disk/x"),
        ("set root=(hd0,1)", "grub:(hd0,1)"),
        ("set root=lvm/vg-boot", "grub:lvm/vg-boot"),
        ("search --fs-uuid --set root 1234-ABCD", "uuid:1234-ABCD"),
        ("search -n -u 1234-ABCD --hint hd0,gpt1 -s root", "uuid:1234-ABCD"),
    ],
)
def test_devices(command: str, device: str) -> None:
    others: dict[str, GuestFiles | Unknown] = {device: Tree({})}
    got = entry(started(f"menuentry x {{\n {command}\n linux /vmlinuz root=x\n}}\n", others=others))
    assert got.kernel == FilePlace(device.replace("(", "").replace(")", ""), "/vmlinuz")


def test_paths_with_a_device() -> None:
    text = f"search --set=d --fs-uuid {U1}\nset root=hd0,1\n"
    text += "menuentry x {\nlinux ($d)/boot/v root=x\ninitrd ($root)/i /j\n}\n"
    got = entry(started(text, others={f"uuid:{U1}": Tree({})}))
    assert got.kernel == FilePlace(f"uuid:{U1}", "/boot/v")
    assert got.initrds == (FilePlace("grub:hd0,1", "/i"), FilePlace("grub:hd0,1", "/j"))


FEDORA = """
set pager=1
if [ -f ${config_directory}/grubenv ]; then
  load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${saved_entry}"
fi
if [ x$feature_timeout_style = xy ] ; then set timeout_style=menu; set timeout=5; else set timeout=5; fi
insmod part_gpt
insmod xfs
set root='hd0,gpt2'
search --no-floppy --fs-uuid --set=root 22222222-94a1-4d0e-a1f5-5b7c3f1f2a31
set boot='hd0,gpt2'
search --no-floppy --fs-uuid --set=boot 22222222-94a1-4d0e-a1f5-5b7c3f1f2a31
if [ -z "${kernelopts}" ]; then
  set kernelopts="root=/dev/mapper/rl-root ro crashkernel=1G-4G:192M,4G-64G:256M "
fi
insmod blscfg
blscfg
if [ "$grub_platform" = "efi" ]; then
	menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' { fwsetup }
fi
"""
ID = "5e0f3a1b2c4d4e6f8a9b0c1d2e3f4a5b"


def snippet(version: str, options: str = "$kernelopts $tuned_params", title: str = "") -> str:
    return (
        f"title {title or f'Rocky Linux ({version}) 9.4'}\nversion {version}\nlinux /vmlinuz-{version}\n"
        f"initrd /initramfs-{version}.img $tuned_initrd\noptions {options}\ngrub_users $grub_users\n"
        f"grub_arg --unrestricted\ngrub_class rocky\n"
    )


BOOT = {
    f"/loader/entries/{ID}-0-rescue.conf": snippet("0-rescue-" + ID, "root=/dev/rescue"),
    f"/loader/entries/{ID}-5.14.0-427.el9.x86_64.conf": snippet("5.14.0-427.el9.x86_64"),
    f"/loader/entries/{ID}-5.14.0-70.el9.x86_64.conf": snippet("5.14.0-70.el9.x86_64"),
    "/loader/entries/README": "no entry",
}


def red_hat(environment: dict[str, str], platform: str = "pc", **more: str | bytes | Unknown) -> Started:
    boot = Tree({**BOOT, "/grub2/grubenv": grubenv(**environment), "/grub2/grub.cfg": FEDORA, **more})
    return by_config(Machines(boot, {f"uuid:{U2}": boot}), "/grub2/grub.cfg", platform=platform)


@pytest.mark.parametrize("platform", ["pc", "efi"])
def test_blscfg_takes_the_greatest_version_or_the_saved_entry(platform: str) -> None:
    got = entry(red_hat({}, platform))
    assert (got.version, got.root) == ("5.14.0-427.el9.x86_64", "/dev/mapper/rl-root")
    assert got.source == f"/loader/entries/{ID}-5.14.0-427.el9.x86_64.conf"
    assert got.initrds == (FilePlace(f"uuid:{U2}", "/initramfs-5.14.0-427.el9.x86_64.img"),)
    for saved in (f"{ID}-5.14.0-70.el9.x86_64", "Rocky Linux (5.14.0-70.el9.x86_64) 9.4", "1"):
        assert entry(red_hat({"saved_entry": saved}, platform)).version == "5.14.0-70.el9.x86_64", saved
    assert entry(red_hat({"saved_entry": f"{ID}-0-rescue"}, platform)).root == "/dev/rescue"


def test_blscfgs_options_come_from_the_environment() -> None:
    got = entry(red_hat({"kernelopts": "root=UUID=x ro quiet", "tuned_params": "isolcpus=1 a=b"}))
    assert got.arguments == ("root=UUID=x", "ro", "quiet", "isolcpus=1", "a=b")
    assert entry(red_hat({"tuned_initrd": "/t.img"})).initrds[-1].path == "/t.img"


def test_blscfg_with_boot_in_the_root() -> None:
    """Where /loader/entries is not there, it reads /boot/loader/entries."""
    files = {"/boot/grub2/grub.cfg": "set timeout=1\nblscfg\n", **{"/boot" + path: text for path, text in BOOT.items()}}
    assert entry(by_config(Machines(Tree(files)), "/boot/grub2/grub.cfg")).version == "5.14.0-427.el9.x86_64"


def test_blscfg_without_entries_or_with_unreadable_ones() -> None:
    tree = {"/boot/grub2/grub.cfg": "set timeout=1\nblscfg\n"}
    got = by_config(Machines(Tree(tree)), "/boot/grub2/grub.cfg")
    assert got.entry is ABSENT and "has no menu" in got.how
    got = by_config(Machines(Tree({**tree, "/loader": UNREADABLE})), "/boot/grub2/grub.cfg")
    assert isinstance(got.entry, Unknown) and UNREADABLE.why in got.entry.why
    one = {f"/loader/entries/{ID}-9.conf": UNREADABLE}
    assert isinstance(red_hat({}, **one).entry, Unknown)


COREOS = """
search --label boot --set prefix
set prefix=($prefix)/grub2
if [ -f "${prefix}/grubenv" ]; then load_env -f "${prefix}/grubenv"; fi
if [ -f $prefix/user.cfg ]; then source $prefix/user.cfg; fi
set timeout=1
search --no-floppy --set=root --label boot
set boot="$root"
set ignition_firstboot=""
if [ -f "/ignition.firstboot" ]; then
    set ignition_network_kcmdline=''
    source "/ignition.firstboot"
    set ignition_firstboot="ignition.firstboot $ignition_network_kcmdline"
fi
blscfg
"""


def ostree(number: int, kernel: str) -> str:
    return (
        f"title Fedora CoreOS (ostree:{2 - number})\nversion {number}\nlinux /ostree/coreos-abc/vmlinuz-{kernel}\n"
        f"initrd /ostree/coreos-abc/initramfs-{kernel}.img\n"
        "options $ignition_firstboot ignition.platform.id=metal ostree=/ostree/boot.1/coreos/abc/0 root=UUID=x\n"
    )


def test_ostree_and_coreos() -> None:
    """CoreOS finds its boot file system by its label, and OSTree's entries are by number."""
    boot = Tree({f"/loader/entries/ostree-{each}-coreos.conf": ostree(each, f"6.{each}") for each in (1, 2)})
    esp = Tree({"/EFI/fedora/grub.cfg": COREOS})
    got = start(Machines(esp, {"label:boot": boot}), Core("/EFI/fedora", folder="/EFI/BOOT"))
    assert entry(got).kernel == FilePlace("label:boot", "/ostree/coreos-abc/vmlinuz-6.2")
    assert entry(got).arguments[:2] == ("ignition.platform.id=metal", "ostree=/ostree/boot.1/coreos/abc/0")


SUSE = f"""
set btrfs_relative_path="y"
export btrfs_relative_path
if [ -f ${{config_directory}}/grubenv ]; then
  load_env -f ${{config_directory}}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${{env_block}}" ] ; then
  set env_block="(${{root}})${{env_block}}"
  export env_block
  load_env -f "${{env_block}}"
fi
if [ "${{next_entry}}" ] ; then
   set default="${{next_entry}}"
   set next_entry=
   if [ "${{env_block}}" ] ; then save_env -f "${{env_block}}" next_entry; fi
   set boot_once=true
else
   set default="${{saved_entry}}"
fi
if [ -n "$extra_cmdline" ]; then
  submenu "Bootable snapshot #$snapshot_num" {{
    menuentry "If OK, run 'snapper rollback' and reboot." {{ true; }}
  }}
fi
menuentry 'SLES 15-SP5'  --class sles --class gnu-linux --class os ${{menuentry_id_option}} 'gnulinux-simple-{U1}' {{
	load_video
	set gfxpayload=keep
	insmod gzio
	search --no-floppy --fs-uuid --set=root {U1}
	echo	'Loading Linux 5.14.21-150500.53-default ...'
	linux	/boot/vmlinuz-5.14.21-150500.53-default root=UUID={U1}  ${{extra_cmdline}} splash=silent quiet
	initrd	/boot/initrd-5.14.21-150500.53-default
}}
if [ -f "/.snapshots/grub-snapshot.cfg" ]; then
  source "/.snapshots/grub-snapshot.cfg"
fi
if [ x"$extra_cmdline" = x ]; then
 hiddenentry "Text mode" --hotkey "t" {{
  set textmode=true
  configfile "${{config_directory}}/grub.cfg"
 }}
fi
"""


def test_suses_configuration() -> None:
    root = Tree({"/boot/grub2/grub.cfg": "set timeout=8\n" + SUSE})
    got = by_config(Machines(root, {f"uuid:{U1}": root}), "/boot/grub2/grub.cfg")
    assert entry(got).arguments == (f"root=UUID={U1}", "splash=silent", "quiet")


STUB = f"search --no-floppy --fs-uuid --set=dev {U2}\nset prefix=($dev)/grub2\nconfigfile $prefix/grub.cfg\n"


def test_a_stub_on_the_esp_leads_to_the_configuration() -> None:
    boot = Tree({**BOOT, "/grub2/grub.cfg": FEDORA})
    esp = Tree({"/EFI/redhat/grub.cfg": STUB})
    got = start(Machines(esp, {f"uuid:{U2}": boot}), Core("/EFI/redhat", folder="/EFI/redhat"))
    assert entry(got).version.startswith("5.14.0-427") and got.config == FilePlace(f"uuid:{U2}", "/grub2/grub.cfg")
    got = start(Machines(esp), Core("/EFI/redhat"))
    assert got.entry is ABSENT and got.unfound == (f"uuid:{U2}",) and "/grub2/grub.cfg is not there" in got.how
    got = start(Machines(esp, {f"uuid:{U2}": UNREADABLE}), Core("/EFI/redhat"))
    assert isinstance(got.entry, Unknown) and UNREADABLE.why in got.entry.why
    got = start(Machines(Tree({})), Core("/EFI/redhat"))
    assert got.entry is ABSENT and "/EFI/redhat/grub.cfg is not there" in got.how


def test_red_hats_grub_looks_beside_itself_first() -> None:
    esp = Tree({"/EFI/BOOT/grub.cfg": "set timeout=1\n" + block("A", "a"), "/EFI/redhat/grub.cfg": block("B", "b")})
    for first, expected in ((True, "a"), (False, "b")):
        core = Core("/EFI/redhat", folder="/EFI/BOOT", folder_first=first)
        assert entry(start(Machines(esp), core)).root == expected


DEBIAN_EARLY = """
if [ -z "$prefix" -o ! -e "$prefix" ]; then
	if ! search --file --set=root /.disk/info; then
		search --file --set=root /.disk/mini-info
	fi
	set prefix=($root)/boot/grub
fi
if [ -e $prefix/x86_64-efi/grub.cfg ]; then
	source $prefix/x86_64-efi/grub.cfg
elif [ -e $prefix/grub.cfg ]; then
	source $prefix/grub.cfg
else
	source $cmdpath/grub.cfg
fi
"""


def test_debians_signed_image() -> None:
    boot = Tree({"/boot/grub/grub.cfg": "set timeout=5\n" + ABC})
    stub = f"search.fs_uuid {U1} root hd0,gpt2\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    esp = Tree({"/EFI/debian/grub.cfg": stub})
    for folder in ("/EFI/debian", "/EFI/BOOT"):
        core = Core("/EFI/debian", config=DEBIAN_EARLY, folder=folder)
        assert entry(start(Machines(esp, {f"uuid:{U1}": boot}), core)).root == "a"
    esp = Tree({"/EFI/BOOT/grub.cfg": stub})
    assert (
        entry(start(Machines(esp, {f"uuid:{U1}": boot}), Core("/EFI/debian", DEBIAN_EARLY, "efi", "/EFI/BOOT"))).root
        == "a"
    )


def test_a_core_image_by_the_bios() -> None:
    lv = Tree({"/boot/grub/grub.cfg": "set timeout=5\n" + ABC})
    got = start(Machines(Tree({}), {"grub:lvm/vg-root": lv}), Core("(lvm/vg-root)/boot/grub", platform="pc"))
    assert entry(got).kernel == FilePlace("grub:lvm/vg-root", "/vmlinuz")
    early = f"search.fs_uuid {U1} root \nset prefix=($root)/boot/grub\n"
    got = start(Machines(Tree({}), {f"uuid:{U1}": lv}), Core("(,msdos1)/boot/grub", early, "pc"))
    assert entry(got).kernel.device == f"uuid:{U1}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if false; then set a=1; elif true; then set a=2; else set a=3; fi", "2"),
        ("if [ -z x ]; then set a=1\nelse\nset a=3\nfi", "3"),
        ("for x in 1 2 3; do set a=$a$x; done", "123"),
        ("set n=x\nwhile [ $n != xxx ]; do set n=${n}x; set a=$n; done", "xxx"),
        ("until [ x$a = xyy ]; do set a=${a}y; done", "yy"),
        ("function f { set a=$1$2$#; }\nf p q r", "pq3"),
        ("function f { set a=1; return 1; set a=2; }\nif f; then set a=3; fi", "1"),
        ("set a=\"$b\"c'$b'\\$b", "c$b$b"),
        ("set b='x y'\nset a=$b", "x"),
        ("set b='x y'\nset a=\"$b\"", "x y"),
        ("set a=1 # set a=2\n# set a=3", "1"),
        ("set a=o\\\nk", "ok"),
        ('set a="o\\\nk"', "ok"),
        ("set a=x#y", "x#y"),
        ('set a="\\"q\\\\"', '"q\\'),
        ("for x in 1 2 3; do if [ $x = 2 ]; then continue; fi; if [ $x = 3 ]; then break; fi; set a=$a$x; done", "1"),
        ("if false; then set a=1; " + "elif false; then set a=2; " * 2000 + "else set a=3; fi", "3"),
        ("if ! true; then set a=1; else set a=2; fi", "2"),
        ("set a=1; unset a; set a=x${a}y", "xy"),
        ("source /more", "m"),
        (". /more", "m"),
        ("source /gone; set a=ok$?", "ok1"),
        ("set b=/mo; source ${b}re", "m"),
        ('set a=$"translated"', "translated"),
        ("a=1", "1"),
        ("true && set a=1", None),
        ("if true; then set a=1", None),
        ("set a='1", None),
        ("menuentry x {", None),
        ("}", None),
        ("set a=$(b)", None),
        ("if true; then\nfi", None),
        ("true;; true", None),
        ("menuentry x { }", None),
        ("if true; then set a=1; fi set a=2", None),
        ("function f { }", None),
        ("x { true } y", None),
    ],
)
def test_the_language(text: str, expected: str | None) -> None:
    got = started(f'{text}\nmenuentry e {{ linux /v "root=$a" }}', {"/more": "set a=m"})
    if expected is None:
        assert isinstance(got.entry, Unknown) and "no script of GRUB's" in got.entry.why and "line" in got.entry.why
    else:
        assert entry(got).arguments == (f"root={expected}",)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a = a", True),
        ("a == b", False),
        ("a != b", True),
        ("-n", True),
        ("-n x", True),
        ("-z x", False),
        ("", False),
        ("! a = b", True),
        ("a = a -a b = c", False),
        ("a = b -o c = c", True),
        ("a = a -o b = b -a c = d", True),
        ("( a = b -o c = c ) -a d = d", True),
        ("2 -lt 10", True),
        ("2 < 10", False),
        ("0x10 -eq 16", True),
        ("-f /f", True),
        ("-f /d", False),
        ("-d /d", True),
        ("-e /d", True),
        ("-s /e", False),
        ("-e /e", True),
        ("-e /x", False),
        ("! -f /x", True),
        ("-f /u", None),
        ("a = b -a -f /u", False),
        ("a = a -o -f /u", True),
        ("a = a -a -f /u", None),
        ("! ! a", True),
        ("x", True),
        ("a -nt b", None),
        ("! ( a = a )", False),
    ],
)
def test_conditions(words: str, expected: bool | None) -> None:
    def exists(kind: str, file: object) -> bool | Doubt:
        return (
            Doubt("unreadable")
            if file == "/u"
            else (kind, file)
            in {
                ("-f", "/f"),
                ("-e", "/f"),
                ("-s", "/f"),
                ("-d", "/d"),
                ("-e", "/d"),
                ("-f", "/e"),
                ("-e", "/e"),
            }
        )

    got = conditions.holds(list(words.split()), exists)
    assert isinstance(got, Doubt) if expected is None else got is expected


def test_what_cant_be_told_is_unknown_only_where_it_decides() -> None:
    """Both branches are followed: what they leave alike is known."""
    same = "if smbios -t 1; then set x=1; set a=r; else set x=2; set a=r; fi\n"
    assert root(same + "menuentry e { linux /v root=$a }") == "r"
    other = started("if smbios -t 1; then set a=1; else set a=2; fi\nmenuentry e { linux /v root=$a }")
    assert isinstance(other.entry, Unknown) and "smbios" in other.entry.why
    quiet = "if smbios -t 1; then set a=quiet; else set a=; fi\nmenuentry e { linux /v root=r $a last }"
    assert entry(started(quiet)).arguments == ("root=r", "last")
    last = "menuentry e { if smbios -t 1; then linux /v root=r quiet; else linux /v root=r; fi }"
    assert entry(started(last)).arguments == ("root=r",)
    where = "menuentry e { if smbios -t 1; then linux /v root=r; else linux /w root=r; fi }"
    assert isinstance(started(where).entry, Unknown)


def test_entries_that_are_there_perhaps() -> None:
    perhaps = "if smbios -t 1; then\n" + block("P", "p") + "fi\n"
    assert root(f"set default=1\n{ABC}{perhaps}") == "b"
    assert isinstance(started(f"set default=1\n{perhaps}{ABC}").entry, Unknown)
    assert root(f"set default=ib\n{perhaps}{ABC}") == "b"  # it is none of those that may be there
    assert isinstance(started(f"set default=P\n{perhaps}{ABC}").entry, Unknown)
    assert isinstance(started(f"set default=3\n{ABC}{perhaps}").entry, Unknown)


def test_a_command_that_gives_a_variable() -> None:
    for command in ("smbios --type 1 --set a", "regexp --set=1:a '(.*)' x", "gptprio.next -d a -u b", "read a"):
        got = started(f"{command}\nmenuentry e {{ linux /v root=$a }}")
        assert isinstance(got.entry, Unknown), command
    text = f"search --set=root --fs-uuid {U1}\nprobe --set=a --fs-uuid ($root)\nmenuentry e {{ linux /v root=UUID=$a }}"
    assert entry(started(text, others={f"uuid:{U1}": Tree({})})).root == f"UUID={U1}"


@pytest.mark.parametrize(
    ("body", "answer", "words"),
    [
        ("fwsetup", ABSENT, "fwsetup"),
        ("exit", ABSENT, "exit"),
        ("echo hello", ABSENT, "no kernel"),
        ("multiboot2 /boot/xen.gz\nmodule2 /vmlinuz root=x", Unknown, "Xen"),
        ("ntldr /bootmgr", Unknown, "ntldr"),
        ("chainloader /EFI/Microsoft/Boot/bootmgfw.efi", Unknown, "bootmgfw"),
        ("chainloader +1", Unknown, "another loader"),
    ],
)
def test_an_entry_that_starts_no_linux(body: str, answer: object, words: str) -> None:
    got = started(f"set default=1\n{block('A', 'a')}menuentry 'other' {{\n{body}\n}}\n")
    assert (got.entry is ABSENT) if answer is ABSENT else isinstance(got.entry, Unknown)
    assert words in got.how
    program = FilePlace("", "/EFI/Microsoft/Boot/bootmgfw.efi") if "bootmgfw" in body else None
    assert got.program == program


def test_a_file_that_cant_be_read_on_the_way() -> None:
    got = started("source /more\n" + ABC, {"/more": UNREADABLE})
    assert isinstance(got.entry, Unknown) and "/more" in got.entry.why
    got = by_config(Machines(Tree({CONFIG: UNREADABLE})), CONFIG)
    assert isinstance(got.entry, Unknown) and UNREADABLE.why in got.entry.why
    assert (FilePlace("", CONFIG), UNREADABLE.why) in got.looked


def test_it_waits_for_a_person() -> None:
    assert started(ABC).waits == ""
    assert "timeout" in started("set timeout=-1\n" + ABC).waits
    assert "timeout" in by_config(Machines(Tree({CONFIG: ABC})), CONFIG).waits
    password = "set superusers=root\nexport superusers\npassword_pbkdf2 root grub.pbkdf2.x\n"
    assert "password" in started(password + ABC).waits
    assert started(password + block("A", "a", "--unrestricted")).waits == ""
    assert red_hat({}).waits == "" and "password" in red_hat({"grub_users": "root", "superusers": "root"}).waits


def test_what_is_tried_when_the_default_fails() -> None:
    got = started("set fallback='2 ib'\n" + ABC)
    assert [each.root for each in got.fallbacks if isinstance(each, Entry)] == ["c", "b"]


def test_a_configuration_that_starts_a_kernel_without_a_menu() -> None:
    assert root("linux /v root=x\ninitrd /i\nboot\n") == "x"


@pytest.mark.parametrize(
    "text",
    [
        "function f { f; }\nf\n",
        "while true; do true; done\n",
        "source /boot/grub/grub.cfg\n",
        "configfile /boot/grub/grub.cfg\n",
        "set a=aaaaaaaa\n" + "set a=$a$a$a$a\n" * 30,
        "for x in 1 2 3 4 5 6 7 8 9; do " * 8 + "true; " + "done; " * 8,
        "if true; then " * 200 + "fi; " * 200,
        "submenu x { " * 3000 + "}" * 3000,
        "a b c\n" * 90_000,
        "'a'" * 90_000,
        "x { " + '"$a$b"' * 90_000 + "}",
        "if smbios; then true; " + "elif smbios; then true; " * 2000 + "fi\n" + ABC,
        "if smbios; then set a=1; fi\n" * 3000,
        "".join(f"set v{number}=1\n" for number in range(3000)),
        "if [ -f /x$a ]; then true; fi\nset a=x$a\n" * 400,
        "".join(f"menuentry {number} {{ true }}\n" for number in range(3000)),
    ],
)
def test_what_grows_without_end_is_not_known(text: str) -> None:
    got = started(text)
    assert isinstance(got.entry, Unknown), got


PIECES = (
    "menuentry ",
    "{",
    "}",
    "'",
    '"',
    "\\",
    "$",
    "${",
    "if ",
    "; then",
    "fi\n",
    "[ ",
    "]",
    "\n",
    " ",
    "a",
    "=",
    "\0",
    "()",
    "set ",
    "\x0b",
    "\xa0",
    "#",
    "for x in ",
    "do",
    "done",
    "(hd0)",
    "linux ",
    "é",
    "-f",
    "-a",
    "!",
    ">",
    "default",
)


def test_hostile_text_ends_in_an_answer() -> None:
    rng = random.Random(5)
    for _ in range(1500):
        assert isinstance(started("".join(rng.choices(PIECES, k=rng.randrange(1, 60)))), Started)


def test_the_text_of_an_entry_is_read_only_when_it_is_run() -> None:
    (node,) = script.parsed("menuentry x { a 'b}' # }\n}", Bounds())
    assert isinstance(node, Command) and node.block is not None and node.block.text == " a 'b}' # }\n"
    with pytest.raises(NoScript):
        script.parsed("menuentry x { } }", Bounds())


def test_an_image_without_the_module_that_reads_configurations_loads_it_from_its_prefix() -> None:
    """grub-install leaves it beside grub.cfg; GRUB ends in its rescue shell without it."""
    core = Core("(own:)/boot/grub", platform="pc", normal=False)
    files: dict[str, str | bytes | Unknown] = {CONFIG: "set timeout=5\n" + ABC}

    def got(more: dict[str, str | bytes | Unknown]) -> Started:
        return start(Machines(Tree(files | more)), core)

    assert entry(got({"/boot/grub/i386-pc/normal.mod": b"\x7fELF"})).root == "a"
    assert entry(got({"/boot/grub/i386-pc": UNREADABLE})).root == "a"
    for more in ({}, {"/boot/grub/x86_64-efi/normal.mod": b"\x7fELF"}):
        gone = got(dict(more))
        assert gone.entry is ABSENT and "i386-pc/normal.mod is not there" in gone.how
    # SUSE's, in a subvolume of their own that the image mounts.
    core = Core(
        "(own:)/boot/grub", "btrfs-mount-subvol ($root) /boot/grub/i386-pc /@/boot/grub/i386-pc\n", "pc", normal=False
    )
    assert entry(got({})).root == "a"
