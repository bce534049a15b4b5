"""Which physical volumes LVM looks for: its devices file, its settings, its filters."""

from __future__ import annotations

import time

import pytest

from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown
from warmspare.recover.readiness.devices import lvmfile
from warmspare.recover.readiness.devices.blocks import Device, DeviceKind
from warmspare.recover.readiness.devices.lvmfile import DevicesFile, LvmSettings, hidden, parsed, settings
from warmspare.recover.readiness.devices.lvmfilter import MAX_PATTERN, MAX_PATTERNS, NotFilter, accepts
from warmspare.recover.readiness.guest.volumes import Contents

PV = "PPPPPP-PPPP-PPPP-PPPP-PPPP-PPPP-PPPPPP"
FLAT = "P" * 32
PART = Device(
    DeviceKind.PARTITION, "loop0,gpt2", "partition 2 of d", 0, Contents("LVM2_member", PV, ""), 2, part_uuid="1-2"
)
USED = LvmSettings("system.devices")


def file(line: str, head: str = "VERSION=1.1.1\n") -> Answer[DevicesFile]:
    return parsed(f"# LVM uses devices listed in this file.\n{head}{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        f"IDTYPE=sys_wwid IDNAME=naa.6000c29000000000 DEVNAME=/dev/sda2 PVID={FLAT} PART=2",
        f"IDTYPE=sys_serial IDNAME=VMware_Virtual_1 DEVNAME=/dev/sda2 PVID={FLAT} PART=2",
        f"IDTYPE=mpath_uuid IDNAME=mpath-36000c29 DEVNAME=/dev/dm-0 PVID={FLAT}",
        f"IDTYPE=wwid_naa IDNAME=naa.6000c29 DEVNAME=/dev/sda2 PVID={FLAT} PART=2",
        f"IDTYPE=sys_wwid IDNAME=nvme.15ad-1 DEVNAME=/dev/nvme0n1p2 PVID={FLAT} PART=2",
        f"IDTYPE=sys_wwid IDNAME=naa.6000c29 DEVNAME=/dev/sdb PVID={'Q' * 32}",
        "",
    ],
)
def test_a_devices_file_by_the_machines_ids_hides_its_volumes(line: str) -> None:
    lost = hidden({PV: PART}, USED, file(line), 1)
    assert isinstance(lost[PV], str) and "devices file" in str(lost[PV])
    assert hidden({PV: PART}, LvmSettings(ABSENT), file(line), 1) == {}
    assert hidden({PV: PART}, USED, ABSENT, 1) == {}
    doubtful = hidden({PV: PART}, LvmSettings(Unknown("it is not known")), file(line), 1)[PV]
    assert isinstance(doubtful, Unknown) and "it is not known" in doubtful.why


def test_ids_of_what_stands_on_the_disks_are_found_again() -> None:
    for kind in ("crypt_uuid", "md_uuid", "lvmlv_uuid", "loop_file"):
        assert hidden({PV: PART}, USED, file(f"IDTYPE={kind} IDNAME=x PVID={FLAT}"), 1) == {}, kind
    by_name = file(f"IDTYPE=devname IDNAME=/dev/sda2 DEVNAME=/dev/sda2 PVID={FLAT} PART=2")
    assert isinstance(hidden({PV: PART}, USED, by_name, 1)[PV], Unknown)
    assert hidden({PV: PART}, LvmSettings("system.devices", "all"), by_name, 1) == {}
    nvme = file(f"IDTYPE=devname IDNAME=/dev/nvme0n1p2 DEVNAME=/dev/nvme0n1p2 PVID={FLAT} PART=2")
    assert hidden({PV: PART}, USED, nvme, 1) == {} and isinstance(hidden({PV: PART}, USED, nvme, 2)[PV], Unknown)


def test_a_file_that_knows_its_machine_is_looked_over_by_newer_lvms() -> None:
    line = f"IDTYPE=sys_wwid IDNAME=naa.6000c29 DEVNAME=/dev/sda2 PVID={FLAT} PART=2"
    found = hidden({PV: PART}, USED, file(line, "VERSION=1.1.2\nPRODUCT_UUID=4c4c4544\n"), 1)[PV]
    assert isinstance(found, Unknown) and "newer versions" in found.why
    assert hidden({PV: PART}, USED, Unknown("it can't be read"), 1) == {PV: Unknown("it can't be read")}
    assert isinstance(parsed(f"{line}\n" * (lvmfile.MAX_LINES + 1)), Unknown)


@pytest.mark.parametrize(
    ("text", "system", "release", "name"),
    [
        ("devices {\n use_devicesfile = 1\n}", "debian", "12", "system.devices"),
        ("devices {\n use_devicesfile=0\n}", "rhel", "9.4", None),
        ("devices {\n\t# use_devicesfile = 1\n}", "", "", "system.devices"),
        ("devices {\n\t# use_devicesfile = 0\n}", "debian", "12", None),
        ("devices {\n\t# use_devicesfile = 0\n}", "rhel", "9.4", "system.devices"),  # what somebody switched off
        ("", "rhel", "9.4", "system.devices"),
        ("", "ol", "9.3", "system.devices"),
        ("", "fedora", "40", "system.devices"),
        ("", "rhel", "8.9", None),
        ("", "centos", "7", None),
        ("", "debian", "12", "?"),
        ("", "", "", "?"),
        ('devices { use_devicesfile = 1 devicesfile = "mine.devices" }', "", "", "mine.devices"),
        ('devices { use_devicesfile = 1 devicesfile = "../../x" }', "", "", "?"),
        ("devices {", "rhel", "9", "?"),
    ],
)
def test_whether_there_is_a_devices_file_is_told_by_lvms_settings(
    text: str, system: str, release: str, name: str | None
) -> None:
    found = settings([text], system, release).file
    assert found == name if name != "?" and name else (found is ABSENT if name is None else isinstance(found, Unknown))


def test_a_later_file_of_settings_overrides() -> None:
    found = settings(['devices { use_devicesfile = 1 filter = [ "a|x|" ] }', "devices/use_devicesfile = 0"])
    assert found.file is ABSENT and found.filters == (("a|x|",),)


@pytest.mark.parametrize(
    ("filters", "lost"),
    [
        ([["a|^/dev/sd.*|", "r|.*|"]], True),
        ([["a|^/dev/sda2$|", "r/.*/"]], True),
        ([["a|/dev/sd[a-c][0-9]+|", "a|/dev/nvme|", "r|.*|"]], False),
        ([["r|/dev/cdrom|"]], False),
        ([["r|^/dev/sr0$|", "a|.*|"]], False),
        ([["a|^/dev/disk/by-id/lvm-pv-uuid-|", "r|.*|"]], False),
        ([["a|^/dev/disk/by-id/(scsi|wwn)-.*|", "r|.*|"]], True),
        ([["a|^/dev/disk/by-partuuid/1-2$|", "r|.*|"]], False),
        ([["r|^/dev/nvme.*|", "r|^/dev/disk/.*|"]], True),
        ([["a|.*|"], ["r|.*|"]], True),
        ([[]], False),
    ],
)
def test_a_filter_that_names_other_disks_hides_its_volumes(filters: list[list[str]], lost: bool) -> None:
    chosen = LvmSettings(ABSENT, filters=tuple(map(tuple, filters)))
    assert bool(hidden({PV: PART}, chosen, ABSENT, 1)) is lost
    # With a devices file filters don't count.
    stable = file(f"IDTYPE=crypt_uuid IDNAME=x PVID={FLAT}")
    assert hidden({PV: PART}, LvmSettings("f", filters=chosen.filters), stable, 1) == {}


def test_a_filter_by_a_disks_number_is_not_certain() -> None:
    chosen = LvmSettings(ABSENT, filters=(("a|^/dev/nvme0n1|", "r|.*|"),))
    assert hidden({PV: PART}, chosen, ABSENT, 1) == {}
    assert isinstance(hidden({PV: PART}, chosen, ABSENT, 2)[PV], Unknown)
    assert isinstance(hidden({PV: PART}, LvmSettings(ABSENT, filters=(("x|y|",),)), ABSENT, 1)[PV], Unknown)
    array = Device(DeviceKind.ARRAY, "md/0", "the array 0", 0, ABSENT)
    assert hidden({PV: array}, LvmSettings(ABSENT, filters=(("r|.*|",),)), ABSENT, 1) == {}


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("abc", "xabcx", True),
        ("^abc", "xabc", False),
        ("abc$", "abcx", False),
        ("^a.c$", "abc", True),
        ("a*b", "b", True),
        ("^a+b$", "b", False),
        ("^a?b$", "ab", True),
        ("^(ab|cd)+$", "abcdab", True),
        ("^(ab|cd)+$", "abc", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[a-]", "-", True),
        (r"a\.b", "axb", False),
        (r"[\]]", "]", True),
        ("", "", True),
        ("a|", "zzz", True),
        ("x(|y)z", "xz", True),
        ("^/dev/(sd|nvme)[a-z0-9]*$", "/dev/nvme0n1p2", True),
    ],
)
def test_a_pattern_matches_as_lvm_reads_it(pattern: str, name: str, found: bool) -> None:
    assert accepts([[f"a{chr(1)}{pattern}{chr(1)}", "r|.*|"]], [name]) is found


@pytest.mark.parametrize(
    "filters",
    [
        ["a"],
        ["a|b"],
        ["q|b|"],
        ["a(b|"],
        ["a/(b/"],
        ["a/b)/"],
        ["a/[b/"],
        ["a/*/"],
        ["a|" + "(" * 40 + ")" * 40 + "|"],
        ["a|" + "x" * MAX_PATTERN + "|"],
        ["a|x|"] * (MAX_PATTERNS + 1),
    ],
)
def test_what_is_no_filter_is_refused(filters: list[str]) -> None:
    with pytest.raises(NotFilter):
        accepts([filters], ["/dev/sda"])


def test_a_pattern_made_to_take_for_ever_does_not() -> None:
    begin = time.process_time()
    assert not accepts([["a/^(a*)*(a|a)*(((a+)+)+)+$/", "r|.*|"]], ["a" * 200 + "b"])
    assert time.process_time() - begin < 5
