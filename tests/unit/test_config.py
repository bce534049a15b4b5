"""The configuration: what each key takes and refuses, lines in messages, secrets that never show, the command."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
import time
import tomllib
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig import command
from warmspare.cli.command_parser import parsed
from warmspare.cli.main import run
from warmspare.cli.retention_options import RetentionOptions
from warmspare.config import retention_settings, secret, timetable, values
from warmspare.config.disks import DiskPattern, DiskSelection
from warmspare.config.lines import dotted, find_lines, line_of, too_deep
from warmspare.config.load import load, parse
from warmspare.config.problems import ConfigPlace, SettingsError
from warmspare.config.reading import KEYS
from warmspare.config.retention_settings import RetentionSettings
from warmspare.config.schema import explained, schema, schema_text
from warmspare.config.secret import Secret
from warmspare.config.settings import Find, Settings
from warmspare.engine import host_places
from warmspare.errors import ConfigError
from warmspare.retain.policy import RetentionPolicy

EXAMPLE = files("warmspare.config").joinpath("example.toml").read_text()
PRINT = "a" * 64
BASE = f"""\
[vcenter.main]
host = "vc.example.com"
user = "svc@vsphere.local"
password = {{env = "PW"}}
thumbprint = "{PRINT}"
vddk = "/opt/vddk"
[repository.offsite]
uri = "s3://example/x"
[vm.dc02]
name = "dc02"
"""
SCHEMA = jsonschema.Draft202012Validator(schema())
HIDDEN = "hunter2-correct-horse"
HERE = ConfigPlace("f.toml", "vcenter.main.password", 4)


def read(text: str) -> Settings:
    settings = parse(text, Path("f.toml"))
    assert SCHEMA.is_valid(tomllib.loads(text)), text  # whatever is taken is right for an editor, too
    return settings


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(text)
    found = [problem.sentence for problem in caught.value.problems]
    assert all("\n" not in sentence and len(sentence) < 400 for sentence in found)
    return found


def problem(text: str) -> str:
    [only] = problems(text)
    return only


def vm(more: str) -> str:
    return BASE + more + "\n"


def vcenter(more: str, *, without: str = "nothing") -> str:
    kept = [line for line in BASE.splitlines() if not line.startswith(without)]
    return "\n".join([kept[0], more, *kept[1:]])


# the whole of it


def test_defaults_of_a_short_file() -> None:
    got = read(BASE)
    [center], [repository], [one] = got.vcenters, got.repositories, got.vms
    assert (center.host, center.port, center.transport) == ("vc.example.com", 443, ("nbdssl", "nbd"))
    assert (center.thumbprint, center.ca_file, center.vddk) == (PRINT, None, Path("/opt/vddk"))
    assert (repository.uri, repository.endpoint_url, repository.region) == ("s3://example/x", None, None)
    assert one.vcenter is center and one.repository is repository
    assert one.find == Find("name", "dc02") and not one.find.several
    policy = one.policy
    assert (policy.quiesce, policy.full_compare, policy.snapshot_name) == ("try", "auto", "Karma Sync")
    assert (policy.level, policy.state, policy.rpo_s, policy.max_snapshot_age_s) == (None, None, 900, None)
    assert policy.audit_period_s == 7 * 86400
    assert policy.disks == DiskSelection() and policy.disks.takes(key=1, label="x", path="y")
    assert (got.limits.vms_at_once, got.limits.per_host) == (4, 2)
    assert got.vm("dc02") is one
    with pytest.raises(ConfigError, match=r"no VM 'dc2' in the configuration .*did you mean dc02"):
        got.vm("dc2")


def test_a_vm_says_otherwise_than_the_defaults() -> None:
    got = read(
        BASE.replace('vddk = "/opt/vddk"\n', "")
        + """
[vcenter.second]
host = "192.0.2.7"
port = 8443
user = "u"
password = {file = "/pw"}
ca_file = "/ca.pem"
vddk = "/other"
transport = "hotadd:nbd"
[repository.disk]
uri = "/srv/repo"
[defaults]
vcenter = "main"
repository = "offsite"
vddk = "/opt/vddk"
vddk_config = "/etc/vddk"
transport = ["san", "nbdssl"]
quiesce = "never"
rpo = "1h30m"
disks = {exclude = ["[*] */scratch*.vmdk"]}
level = 3
state = "/state"
[vm.a]
folder = "/dc/vm/prod/"
vcenter = "second"
repository = "disk"
quiesce = "require"
full_compare = "error"
snapshot_name = "ours"
max_snapshot_age = "6h"
spool = "/var/spool/warmspare"
spool_size = "1.5TiB"
audit_period = "0"
level = "auto"
disks = {include = ["hard disk 1", 2003]}
[limits]
vms_at_once = 9
per_host = 3
"""
    )
    main, second = got.vcenters
    assert (main.vddk, main.vddk_config, main.transport) == (Path("/opt/vddk"), Path("/etc/vddk"), ("san", "nbdssl"))
    assert (second.vddk, second.transport, second.ca_file) == (Path("/other"), ("hotadd", "nbd"), Path("/ca.pem"))
    first, other = got.vm("dc02"), got.vm("a")
    assert (first.vcenter, first.repository.name) == (main, "offsite")
    assert (first.policy.quiesce, first.policy.rpo_s, first.policy.level) == ("never", 5400, 3)
    assert not first.policy.disks.takes(key=1, label="Hard disk 2", path="[ssd] web/scratch-1.vmdk")
    assert (other.vcenter, other.repository.name, other.find) == (second, "disk", Find("folder", "/dc/vm/prod"))
    policy = other.policy
    assert (policy.quiesce, policy.full_compare, policy.snapshot_name) == ("require", "error", "ours")
    assert (policy.level, policy.max_snapshot_age_s, policy.rpo_s) == (None, 21600, 5400)
    assert (policy.spool, policy.spool_bytes) == (Path("/var/spool/warmspare"), 3 << 39)
    assert (first.policy.spool, first.policy.spool_bytes) == (None, None)
    assert (first.policy.audit_period_s, policy.audit_period_s) == (7 * 86400, 0)
    assert policy.disks.takes(key=7, label="Hard Disk 1", path="") and policy.disks.takes(key=2003, label="", path="")
    assert not policy.disks.takes(key=7, label="Hard disk 2", path="") and other.find.several
    assert (got.limits.vms_at_once, got.limits.per_host) == (9, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (vm('quiese = "try"'), r"^unknown key \(f\.toml, line 11, vm\.dc02\.quiese\); did you mean quiesce$"),
        (vm("[vm.x]\nname='x'\nzzz = 1"), r"line 13, vm\.x\.zzz\); the keys here are vcenter, repository, path, "),
        ("limit = []\n" + BASE, r"line 1, limit\); did you mean limits$"),
        (vm('[vcentre.x]\nhost="x"'), r"line 11, vcentre\); did you mean vcenter$"),
        (vm("disks = {includes = [1]}"), r"line 11, vm\.dc02\.disks\.includes\); did you mean include$"),
        (vm('[vm."a b"]\nname = 5'), r"line 12, vm\.\"a b\"\.name\); put it in quotes$"),
        (vm("rpo = 15"), r"a duration was expected, not a number .*line 11, vm\.dc02\.rpo\); write it as \"15m\""),
        (vm('rpo = "15 min"'), r"a duration was expected, not '15 min'"),
        (vm('rpo = "0s"'), "from one second to a year"),
        (vm('rpo = "367d"'), "from one second to a year"),
        (vm('quiesce = "maybe"'), r"^'maybe' is not one of try, require, never \(f\.toml, line 11, vm\.dc02\.quiesce"),
        (vm("quiesce = true"), "true or false was given instead of one of try"),
        (vm('full_compare = "sometimes"'), "one of auto, always, error"),
        (vm("level = 10"), "neither a number from 1 to 9"),
        (vm("level = true"), "neither a number from 1 to 9"),
        (vm('state = "state"'), "not absolute"),
        (vm('spool = "spool"'), "not absolute"),
        (vm('spool_size = "200"'), r"a size was expected, not '200' .*write it as \"200GB\""),
        (vm('spool_size = "1MB"'), "from 16MiB to 1024TiB"),
        (vm('snapshot_name = ""'), "the text is empty"),
        (vm(f'snapshot_name = "{"x" * 81}"'), "at most 80 characters"),
        (vm('snapshot_name = "a\\nb"'), "control characters"),
        (vm('path = "/dc/vm/x"'), r"^path and name exclude each other \(f\.toml, line 10, vm\.dc02\.name\); keep one"),
        (vm("[vm.x]"), r"^nothing says how it is found \(f\.toml, line 11, vm\.x\); set one of path, instance_uuid"),
        (vm('[vm.x]\npath = "dc/vm/x"'), "an inventory path begins with /"),
        (vm('[vm.x]\ninstance_uuid = "5012"'), "no UUID"),
        (vm('[vm.x]\nname = "dc02"'), r"^this means the same as 'dc02' \(f\.toml, line 11, vm\.x\)"),
        (vm('vcenter = "mian"'), r"^no vcenter is called 'mian' \(f\.toml, line 11, .*did you mean main$"),
        (vm('[defaults]\nrepository = "zzz"'), r"^no repository is called 'zzz' .*line 12, defaults\.repository\); "),
        (vm('[repository.b]\nuri = "/b"'), r"has 2 \[repository\.NAME\] and nothing says which .*line 9, vm\.dc02\)"),
        (vm("disks = 3"), "a table was expected, not a number"),
        (vm("disks = {include = []}"), "a list of disks was expected"),
        (vm("disks = {include = [true]}"), "a disk is named by its label"),
        (vm('disks = {exclude = ["web/*"]}'), "neither a label nor a datastore path"),
        (vm('[defaults]\nlimit = "5mbit"'), r"^a list of tables was expected, not a text .*line 12, defaults\.limit\)"),
        (vm('[defaults]\nlimit = ["5mbit"]'), r"^a table was expected, not a text .*line 12, defaults\.limit\[0\]\)"),
        (vm('[defaults]\nlimit = [{rate = "5mbit"},\n{rat=1, rate = "5mbit"}]'), r"line 13, defaults\.limit\[1\]\.rat"),
        (vm("[defaults]\nlimit = [{}]"), r"^rate is missing \(f\.toml, line 12, defaults\.limit\[0\]\); add it$"),
        (vm('[defaults]\nlimit = [{rate = "fast"}]'), r"^a rate was expected, not 'fast' .*limit\[0\]\.rate\); write"),
        (vm('[defaults]\nlimit = [{rate = "1kbit"}]'), "from 64kbit to 100gbit"),
        (vm('[defaults]\nlimit = [{rate = "5mbit", days = "mo-fr"}]'), r"^days of the week were .*limit\[0\]\.days\)"),
        (vm('[defaults]\nlimit = [{rate = "5mbit", from = "8:00", to = "09:00"}]'), r"^a time of the day .*\.from\)"),
        (vm('[defaults]\nlimit = [{rate = "5mbit", from = 08:00:00, to = "09:00"}]'), r"^a time of the day .*\.from\)"),
        (vm('[defaults]\nlimit = [{rate = "5mbit", from = "08:00"}]'), r"^from and to go together .*limit\[0\]\);"),
        (vm('[defaults]\nlimit = [{rate = "5mbit", from = "08:00", to = "08:00"}]'), "the period has no length"),
        (vm('[defaults]\nlimit = [{rate = "5mbit", from = "24:00", to = "08:00"}]'), "the period has no length"),
        (BASE.replace('/x"', '/x"\nlimit = [{rate = 5}]'), r"not a number .*line 9, repository\.offsite\.limit\[0\]"),
        (vm("[limits]\nper_host = 0"), r"a whole number from 1 to 64 .*line 12, limits\.per_host"),
        (vm("[limits]\nvms_at_once = '4'"), "a whole number from 1 to 256"),
        (vm("[[vm.list]]\nname = 'x'"), r"a table \[vm\.NAME\] was expected, not a list .*line 11, vm\.list\)"),
        (vm("[vm.'']\nname = 'x'"), "a name must be 1 to 80 printable characters"),
        ("vcenter = 3", r"^tables were expected, not a number \(f\.toml, line 1, vcenter\); write \[vcenter\.NAME\]$"),
        ("[[vm]]\nname = 'x'", r"^tables were expected, not a list \(f\.toml, line 1, vm\)"),
        ("defaults = []", r"^a table was expected, not a list \(f\.toml, line 1, defaults\)"),
        (BASE + '[repository.b]\nuri="b"\n[defaults]\nrepository="offsite"', "no URI of a repository"),
        (BASE + "[repository.b]\n[defaults]\nrepository='offsite'", r"^uri is missing \(f\.toml, line 11, repo"),
        (BASE.replace("s3://example/x", "/x") + "[repository.offsite.q]", r"unknown key .*line 11, repo.*\.offsite\.q"),
        (BASE.replace('"s3://example/x"', '"/x"\nregion = "eu"'), r"region has no meaning for a directory"),
        (BASE.replace('/x"', '/x"\nendpoint_url = "ftp://h"'), "not one of http or https"),
        (BASE.replace('/x"', '/x"\nprofile = "a,b"'), "no name of the kind"),
        (vcenter("", without="host"), r"^host is missing \(f\.toml, line 1, vcenter\.main\); add it$"),
        (vcenter("", without="password"), r"^password is missing \(f\.toml, line 1, vcenter\.main\); add it$"),
        (vcenter("", without="vddk"), r"^there is no VDDK directory for it \(f\.toml, line 1, vcenter\.main\)"),
        (vcenter('ca_file = "/ca"'), r"^thumbprint and ca_file exclude each other \(f\.toml, line 2, "),
        (vcenter('host = "https://vc"', without="host"), "no host name or address"),
        (vcenter('host = "vc:443"', without="host"), "no host name or address"),
        (vcenter("port = 0"), "a whole number from 1 to 65535"),
        (vcenter(f'thumbprint = "{"a" * 40}"', without="thumb"), "this is a SHA-1 thumbprint"),
        (vcenter('thumbprint = "zz"', without="thumb"), "64 hex digits"),
        (vcenter('transport = "nbdssl:smb"'), "'smb' is no transport mode"),
        (vcenter('transport = ["nbd", "nbd"]'), "stands there twice"),
        (vcenter("transport = []"), "transport modes were expected"),
        (vcenter("transport = [1]"), "transport modes were expected"),
        (vcenter("password = 5", without="password"), r"^a secret is a table with one of .*line 2, vcenter\.main"),
        (vcenter("password = {}", without="password"), "one of the keys file, env and command"),
        (vcenter('password = {file="/a", env="B"}', without="password"), "one of the keys"),
        (vcenter('password = {file="a"}', without="password"), "not absolute"),
        (vcenter('password = {env="A B"}', without="password"), "the name of an environment variable"),
        (vcenter('password = {command="pass"}', without="password"), "a list of texts, the program first"),
        (vcenter("password = {command=[]}", without="password"), "a list of texts, the program first"),
        (vcenter('password = "pw"', without="password"), r"^a secret must not stand in this file .*\{env = \"NAME\"\}"),
        ("allow_plain_secrets = 1\n" + BASE, r"true or false was expected, not a number .*line 1, allow_plain"),
        ("a = \n", r"^this is not TOML: invalid value \(f\.toml, line 1\)"),
        ("[a]\n[a]\n", r"^a key or table is defined twice \(f\.toml, line 2\)"),
        ("a = 1\na = 2\n", r"^a key or table is defined twice \(f\.toml, line 2\)"),
        ("a = [1,\n2,\n", r"^this is not TOML.*\(f\.toml, line 2\)"),
        ("a = " + "[" * 5000, "this is not TOML|nested too deeply"),
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deeply|unknown key"),
        ("a = " + "1" * 5000, "a number is too long|unknown key"),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    assert re.search(expected, problem(text)), problem(text)


def test_all_problems_are_told_in_the_order_of_the_file() -> None:
    text = BASE.replace("port", "x").replace('"vc.example.com"', "7") + 'rpo = "x"\nlevel = 0\n[limits]\nper = 1\n'
    found = problems(text)
    assert [re.search(r"line (\d+)", one)[1] for one in found] == ["2", "11", "12", "14"]  # type: ignore[index]
    with pytest.raises(SettingsError) as caught:
        read(text)
    assert caught.value.sentence == found[0] + ", and `warmspare config check` shows 3 more errors"


def test_a_broken_vcenter_is_one_problem_and_not_one_for_each_vm() -> None:
    assert len(problems(vcenter("", without="host") + '\nvcenter = "main"\n[vm.b]\nname = "b"')) == 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172800), ("366d", 366 * 86400)]
)
def test_durations(text: str, seconds: int) -> None:
    assert values.duration(text) == seconds


@pytest.mark.parametrize("value", ["", "15", "m", "1.5h", "-1m", "15M", "1 h", "٣m", 15, None, ["1m"], "9" * 40 + "s"])
def test_no_durations(value: object) -> None:
    with pytest.raises(ConfigError):
        values.duration(value)


def test_a_duration_that_may_be_none() -> None:
    assert [values.duration_or_none(value) for value in ("0", 0, "1h30m")] == [0, 0, 5400]
    for value in (False, 1, "", "0 d", None, []):
        with pytest.raises(ConfigError):
            values.duration_or_none(value)


def test_rates() -> None:
    assert [values.rate(text) for text in ("20mbit", "64kbit", "1gbit", "2.5MB", "64kB", "1GB", "0.5mbit")] == [
        2.5e6,
        8e3,
        125e6,
        2.5e6,
        64e3,
        1e9,
        62.5e3,
    ]
    for value in ("20", "20Mb", "20mbps", "20 mbit", "-1mbit", "20MiB", "1e3mbit", "mbit", ".5MB", 20, True, None):
        with pytest.raises(ConfigError, match="a rate was expected"):
            values.rate(value)
    for value in ("63kbit", "0mbit", "101gbit"):
        with pytest.raises(ConfigError, match="from 64kbit to 100gbit"):
            values.rate(value)


def test_limits_of_repositories() -> None:
    """One for all in the defaults; a repository's own takes its place, and may be none."""
    got = read(
        BASE
        + """
[defaults]
repository = "offsite"
limit = [
  {days = "mon-fri", from = "08:00", to = "18:00", rate = "5mbit"},
  {rate = "50mbit"},
]
[repository.disk]
uri = "/srv/repo"
limit = []
[repository.other]
uri = "/srv/other"
limit = [{from = "22:00", to = "06:00", days = "fri", rate = "2MB"}]
"""
    )
    shown = [[str(period) for period in repository.limit.periods] for repository in got.repositories]
    assert shown == [["mon-fri 08:00-18:00 5mbit", "50mbit"], [], ["fri 22:00-06:00 16mbit"]]


def test_thumbprints_hosts_and_paths_are_brought_to_one_form() -> None:
    colons = ":".join(["Ab"] * 32)
    assert values.thumbprint(colons) == values.thumbprint("AB" * 32) == "ab" * 32
    assert values.host("::1") == "::1" and values.host("VC-1.example.com") == "VC-1.example.com"
    assert values.inventory_path("/dc/vm/x/") == "/dc/vm/x"
    assert values.uuid("5012A7F3-90D2-4C1E-8B6A-D1C0FFEE0042") == "5012a7f3-90d2-4c1e-8b6a-d1c0ffee0042"


def test_datastore_paths_are_globs_in_which_brackets_are_plain() -> None:
    path = "[ssd-01] web1/web1_1.vmdk"
    for written, wanted in {
        "[ssd-01] web1/*": True,
        "[s] web1/*": False,
        "[*] */web1_?.vmdk": True,
        "*_1.vmdk": True,
        "web1_1.vmdk": False,
        "[ssd-01] web1/web1.1.vmdk": False,
        "[ssd-01] web1/web1_1.vmdk": True,
        "[SSD-01] web1/*": False,
        "Hard disk 2": True,
        "hard DISK 2": True,
        "Hard disk": False,
        2001: True,
        2: False,
        "2001": False,
    }.items():
        assert DiskPattern(written).matches(key=2001, label="Hard disk 2", path=path) is wanted, written
    began = time.monotonic()
    DiskPattern("[" + "*a" * 12 + "*.vmdk").matches(key=0, label="", path="[" + "a" * 60)
    assert time.monotonic() - began < 5
    selection = DiskSelection((DiskPattern(1), DiskPattern(2)), (DiskPattern("x"),))
    assert [str(pattern) for pattern in selection.patterns] == ["1", "2", "x"]
    assert not selection.takes(key=1, label="X", path="") and selection.takes(key=2, label="", path="")


# lines

TEXT = '''\
# [not.a.table]
top = 1
[a.b]   # "quoted" comment
x.y = """
[not.a.header]
k = 1 \\"""
""""
'lit.eral' = \'\'\'
z = "
\'\'\'
"q \\u00e9.d" = [ # comment ]
  { one = 1, two.three = "}]" },
  "a # b", 2,
  [3, 1979-05-27 07:32:00],
]
[[list]]
n = 1
[list.sub]
m = { a = 1, b = [ {c = 2} ] }
[[list]]
n = 2
[[list.inner]]
[[list.inner]]
deep = true
["a" . 'b' . c]
last = 0x1F
'''
EXPECTED = {
    ("top",): 2,
    ("a",): 3,
    ("a", "b"): 3,
    ("a", "b", "x", "y"): 4,
    ("a", "b", "lit.eral"): 8,
    ("a", "b", "q é.d"): 11,
    ("a", "b", "q é.d", 0, "one"): 12,
    ("a", "b", "q é.d", 0, "two", "three"): 12,
    ("a", "b", "q é.d", 2): 13,
    ("a", "b", "q é.d", 3, 1): 14,
    ("list", 0): 16,
    ("list", 0, "n"): 17,
    ("list", 0, "sub"): 18,
    ("list", 0, "sub", "m", "b", 0, "c"): 19,
    ("list", 1): 20,
    ("list", 1, "n"): 21,
    ("list", 1, "inner", 0): 22,
    ("list", 1, "inner", 1): 23,
    ("list", 1, "inner", 1, "deep"): 24,
    ("a", "b", "c", "last"): 26,
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_of_keys(newline: str) -> None:
    lines = find_lines(TEXT.replace("\n", newline))
    assert {key: lines.get(key) for key in EXPECTED} == EXPECTED
    assert ("not",) not in lines and ("k",) not in lines
    assert line_of(lines, ("list", 1, "missing")) == 20
    assert line_of(lines, ("elsewhere",)) is None


def paths(value: object, key: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for part, inner in below for path in [(*key, part), *paths(inner, (*key, part))]]


PIECES = [
    "a",
    "b.c",
    "'a.b'",
    '"é\\t"',
    " = ",
    "= 1\n",
    "= 'x'\n",
    '= """a\n"b"\n"""\n',
    "= '''\n[x]\n''''\n",
    "\n",
    "# [c]\n",
    "[a]\n",
    "[b.c]\n",
    "[[l]]\n",
    "[[l.m]]\n",
    "[ 'q' . r ] # x\n",
    "= {x = 1, y.z = [2]}\n",
    "= [1, # c\n 'x',\n {k = '}'}]\n",
    "= 1979-05-27T07:32:00Z\n",
    "= true\n",
    "{",
    "}",
    "[",
    "]",
    ",",
    '"',
    "'",
    "\\",
    "\r\n",
    "\t",
    ".",
    "-",
    "\x00",
    "\u2028",
]
KEYS_WITH_VALUES = st.builds(
    lambda key, value: key + value,
    st.sampled_from(["a", "b.c", "'a.b'", '"é\\t"', "x . y", "k1", "k2", "k3", "k4"]),
    st.sampled_from([piece for piece in PIECES if piece.startswith("=") and piece.endswith("\n")]),
)
HEADERS = st.sampled_from([piece for piece in PIECES if piece.startswith("[") and piece.endswith("\n")])


@given(st.lists(st.one_of(KEYS_WITH_VALUES, KEYS_WITH_VALUES, HEADERS, st.just("\n"), st.just("# [c]\n")), max_size=8))
@settings(max_examples=300, deadline=None)
def test_every_key_of_a_document_has_a_line(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = find_lines(text)
    rows = text.split("\n")
    for path in paths(document):
        assert 1 <= lines[path] <= len(rows), path
        names = [part for part in path if isinstance(part, str)]
        if re.fullmatch("k[0-9]", names[-1]) and path[-1] == names[-1]:
            assert names[-1] in rows[lines[path] - 1]


def test_a_scanner_that_is_lost_knows_nothing() -> None:
    assert find_lines("a = 1\n= 2\n") == {} and find_lines("a = [" * 5000) == {}


def test_paths_are_written_as_in_the_file() -> None:
    assert dotted(("vm", "a b", "disks", "include", 1)) == 'vm."a b".disks.include[1]'
    assert dotted(("x\ny",)) == '"x\\ny"' and "\u2028" not in dotted(("\u2028",)) and len(dotted(("x" * 999,))) == 120


MUTATED = st.builds(
    lambda at, length, new: EXAMPLE[:at] + new + EXAMPLE[at + length :],
    st.integers(0, len(EXAMPLE)),
    st.integers(0, 60),
    st.one_of(st.text(max_size=20), st.sampled_from(PIECES)),
)


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join), MUTATED))
@settings(max_examples=400, deadline=None)
def test_any_text_is_settings_or_an_error_of_one_sentence(text: str) -> None:
    try:
        read(text)
    except SettingsError as error:
        for one in error.problems:
            assert one.exit_code == 2 and "\n" not in one.sentence


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.dates()),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    )
)
def test_any_value_is_taken_or_refused_by_every_parser(value: object) -> None:
    from warmspare.config.disks import disk_patterns

    for parser in (
        values.text,
        values.name,
        values.boolean,
        values.whole(1, 9),
        values.choice(("a",)),
        values.duration,
        values.rate,
        timetable.days,
        timetable.clock,
        values.level,
        values.path,
        values.inventory_path,
        values.uuid,
        values.host,
        values.thumbprint,
        values.transport,
        values.repository_uri,
        values.word,
        values.endpoint_url,
        disk_patterns,
    ):
        try:
            parser(value)  # type: ignore[operator]
        except ConfigError as error:
            assert "\n" not in error.sentence


# secrets


def private(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def refusal(one: Secret, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        one.reveal(environment)
    assert caught.value.exit_code == 2 and "f.toml, line 4, vcenter.main.password" in caught.value.sentence
    assert "\n" not in caught.value.sentence and caught.value.__cause__ is None
    return caught.value.sentence


@pytest.mark.program
def test_secrets_are_read(tmp_path: Path) -> None:
    pw = private(tmp_path / "pw", b"p\xc3\xa4ss word \r\nuser: x\n")
    assert Secret.from_file(pw, HERE).reveal() == "päss word "
    assert Secret.from_environment("PW", HERE).reveal({"PW": "x\ny"}) == "x\ny"
    assert Secret.from_command(("printf", "%s\\n", "a b", "c"), HERE).reveal() == "a b"
    assert Secret.from_command(("sh", "-c", "cat; echo $PW"), HERE).reveal({"PW": "e", "PATH": "/bin:/usr/bin"}) == "e"
    assert Secret.plain("z", HERE).reveal() == "z"


def test_secrets_are_read_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PW", raising=False)
    [one] = read(BASE).secrets()
    monkeypatch.setenv("PW", "late")
    assert one.reveal() == "late"


def test_what_is_wrong_with_a_file_of_a_secret(tmp_path: Path) -> None:
    def told(path: Path) -> str:
        return refusal(Secret.from_file(path, HERE))

    assert "can't be read: No such file or directory" in told(tmp_path / "none")
    assert "is no regular file" in told(tmp_path) and "is no regular file" in told(Path("/dev/null"))
    for mode in (0o644, 0o640, 0o604, 0o620, 0o666):
        path = private(tmp_path / f"pw {mode:o}", HIDDEN.encode(), mode)
        text = told(path)
        assert f"open to other users (mode {mode:04o})" in text and text.endswith(f"run `chmod 600 '{path}'`")
        assert HIDDEN not in text
    assert "is empty" in told(private(tmp_path / "empty", b""))
    assert "is empty" in told(private(tmp_path / "newline", b"\n" + HIDDEN.encode()))
    assert "not UTF-8" in told(private(tmp_path / "latin", b"\xe4" + HIDDEN.encode()))
    assert "too long" in told(private(tmp_path / "long", HIDDEN.encode() * 9999))
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert "is no regular file" in told(tmp_path / "fifo")
    if os.geteuid():
        assert "Permission denied" in told(private(tmp_path / "mine", b"x", 0o000))


def test_what_is_wrong_with_a_variable() -> None:
    one = Secret.from_environment("PW", HERE)
    assert refusal(one, {}).startswith("the environment variable PW is not set (f.toml, line 4, ")
    assert "is empty" in refusal(one, {"PW": ""})


@pytest.mark.program
def test_what_is_wrong_with_a_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def told(*words: str) -> str:
        return refusal(Secret.from_command(words, HERE))

    def shell(script: str) -> str:
        text = told("sh", "-c", f"true {HIDDEN}; {script}")
        assert HIDDEN not in text
        return text

    assert "can't be started: No such file" in told("/none/such")
    assert "can't be started: Permission denied" in told(str(private(tmp_path / "plain", b"")))
    assert "command sh is empty" in shell("true")
    assert "failed with exit code 3: no such entry (" in shell("echo first >&2; echo 'no such  entry' >&2; exit 3")
    assert "failed with signal 9" in shell("kill -9 $$")
    assert len(shell("printf '%5000s\\n' x | tr ' ' y >&2; exit 1")) < 400
    assert "\x1b" not in shell("printf '\\033[31mred' >&2; exit 1")
    assert "failed with exit code 1 (" in shell(f"echo {HIDDEN}; echo 'got {HIDDEN}' >&2; exit 1")
    assert "failed with exit code 1 (" in shell(f"echo {HIDDEN}; exit 1")
    assert "prints too much" in shell("yes")
    monkeypatch.setattr(secret, "COMMAND_S", 0.3)
    began = time.monotonic()
    assert "did not end within" in shell("exec sleep 60")
    assert "did not end within" in shell("sleep 60 & echo x")
    assert "did not end within" in shell("exec >&- 2>&-; exec sleep 60")
    assert time.monotonic() - began < 50  # none was waited for


def test_a_secret_does_not_show_itself() -> None:
    got = read(f'allow_plain_secrets = true\npassword = "{HIDDEN}"\n'.replace("password", "#") + BASE)
    one = read("allow_plain_secrets = true\n" + vcenter(f'password = "{HIDDEN}"', without="password"))
    [hidden] = one.secrets()
    assert hidden.reveal() == HIDDEN and hidden.how == "plain"
    command_line = Secret.from_command(("curl", HIDDEN), HERE)
    for shown in (hidden, command_line, one, one.vcenters, copy.deepcopy(hidden), [hidden], {"x": hidden}):
        assert HIDDEN not in repr(shown) + str(shown) + f"{shown}"
    assert HIDDEN not in command_line.origin + hidden.origin
    with pytest.raises(TypeError):
        pickle.dumps(hidden)
    assert copy.copy(hidden) is hidden and hidden == copy.deepcopy(hidden) and hidden != next(got.secrets())


@pytest.mark.parametrize(
    "line",
    [
        f'password = "{HIDDEN}"',
        f'password = "{HIDDEN}',
        f"password = {HIDDEN}",
        f'password = """{HIDDEN}',
        f'password = "{HIDDEN}"\npassword = "{HIDDEN}"',
        f'password = "{HIDDEN}" x',
        f'password = ["{HIDDEN}"]',
        f'password = {{"{HIDDEN}" = 1}}',
        f'password = {{"{HIDDEN}" = 1, "{HIDDEN}" = 2}}',
        f"password = {{{HIDDEN} = 1}}\npassword.{HIDDEN} = 2",
        f'password.{HIDDEN} = "x"\n[vcenter.main.password.{HIDDEN}]',
        f'password = {{text = "{HIDDEN}"}}',
        f'password = {{file = "{HIDDEN}"}}',
        f'password = {{env = "{HIDDEN}"}}',
        f'password = {{command = "{HIDDEN}"}}',
        f'password = {{command = ["/none/such", "{HIDDEN}"]}}',
        f'password = {{command = ["sh", "-c", "echo {HIDDEN}; echo {HIDDEN} >&2; exit 1"]}}',
        f'passwrod = "{HIDDEN}"',
        f'password = {{env = "UNSET"}}\nhost = "svc:{HIDDEN}@vc"',
        f'password = {{env = "PW"}}\n[repository.b]\nuri = "s3://AKIA:{HIDDEN}@bucket/x"',
        f'password = {{env = "PW"}}\n[repository.b]\nuri = "https://AKIA:{HIDDEN}@bucket/x"',
        f'password = {{env = "PW"}}\n[repository.b]\nuri = "s3://b"\nendpoint_url = "https://a:{HIDDEN}@h"',
    ],
)
def test_nothing_that_goes_wrong_shows_a_secret(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PW", HIDDEN)
    path = private(tmp_path / "f.toml", ("[vcenter.main]\n" + line + "\n").encode())
    for more in (["--json"], ["--debug"], []):
        assert run(["config", "check", "--config", str(path), *more]) == 2
        shown = capsys.readouterr()
        assert HIDDEN not in shown.out + shown.err


# the command


@pytest.mark.program
def test_check_shows_what_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", HIDDEN)
    path = private(tmp_path / "f.toml", BASE.encode() + b'disks = {exclude = ["[ssd] x*"]}\nrpo = "1h30m"\n')
    done = command("config", "check", "--config", path)
    assert done.code == 0 and done.stderr == ""
    [ok] = done.events
    assert ok["event"] == "config.ok" and HIDDEN not in str(ok)
    [center], [repository], [one] = ok["vcenters"], ok["repositories"], ok["vms"]
    assert center["password"] == "environment variable PW" and center["transport"] == ["nbdssl", "nbd"]
    assert repository["uri"] == "s3://example/x" and ok["limits"] == {"vms_at_once": 4, "per_host": 2}
    assert one["find"] == {"name": "dc02"} and one["exclude"] == ["[ssd] x*"] and one["rpo_s"] == 5400
    plain = subprocess.run(
        [sys.executable, "-m", "warmspare", "config", "check", "--config", path], capture_output=True, text=True
    )
    assert plain.returncode == 0 and plain.stderr == "" and HIDDEN not in plain.stdout
    for words in (
        "vc.example.com:443 as svc@vsphere.local",
        "s3://example/x",
        "name dc02 on main to offsite",
        "without [ssd] x*",
        "RPO 1h30m",
        "4 VMs at once",
        "every secret could be read",
    ):
        assert words in plain.stdout, plain.stdout


def test_check_tells_every_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = private(tmp_path / "f.toml", vm("rpo = 1\nlevle = 2").encode())
    done = command("config", "check", "--config", path)
    assert done.code == 2
    told = [(event["line"], event["key"]) for event in done.all("config.problem")]
    assert told == [(11, "vm.dc02.rpo"), (12, "vm.dc02.levle")]
    assert done.all("config.problem")[0]["path"] == str(path)
    assert done.last("error")["message"].startswith("the configuration has 2 errors (")
    assert run(["config", "check", "--config", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "did you mean level" in lines[1] and all(x.startswith("warmspare: ") for x in lines)
    path.write_text(vm("rpo = 1"))
    assert command("config", "check", "--config", path).last("error")["what"].startswith("a duration was expected")


def test_check_reads_secrets_and_opens_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PW", raising=False)
    path = private(tmp_path / "f.toml", BASE.replace("s3://example/x", "s3://NO/x").encode())
    told = [event["message"] for event in command("config", "check", "--config", path).all("config.problem")]
    assert len(told) == 2 and "line 4, vcenter.main.password" in told[0]
    assert "not a valid bucket name" in told[1] and "line 8, repository.offsite.uri" in told[1]


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    def told(path: Path) -> str:
        done = command("config", "check", "--config", path)
        assert done.code == 2
        return str(done.last("error")["message"])

    assert "no such configuration file" in told(tmp_path / "none")
    assert "a directory stands where a file belongs" in told(tmp_path)
    assert "not UTF-8 text" in told(private(tmp_path / "latin", b"a = 1\nb = '\xe4'")) and "line 2" in told(
        tmp_path / "latin"
    )
    assert "too long" in told(private(tmp_path / "long", b"#" * (5 << 20)))
    plain = b"allow_plain_secrets = true\n" + vcenter(f'password = "{HIDDEN}"', without="password").encode()
    text = told(private(tmp_path / "plain", plain, 0o644))
    assert "open to other users" in text and "line 3" in text and HIDDEN not in text and "chmod 600" in text
    assert load(private(tmp_path / "plain", b"\xef\xbb\xbf" + plain)).vcenters[0].password.reveal() == HIDDEN


def test_where_the_configuration_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert host_places.config_path(None) == Path("/etc/warmspare/warmspare.toml")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert host_places.config_path(None) == tmp_path / "warmspare" / "warmspare.toml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/x")
    assert host_places.config_path(None) == Path("/home/x/.config/warmspare/warmspare.toml")
    assert host_places.config_path(Path("y")) == Path("y")


# the example


def sections(text: str) -> dict[str, list[tuple[int, bool, str, str]]]:
    """Kind of table -> its lines that are settings: (index, active, key, whole line)."""
    found: dict[str, list[tuple[int, bool, str, str]]] = {"": []}
    kind = ""
    for index, line in enumerate(text.splitlines()):
        header = re.match(r"\[(\w+)", line)
        setting = re.match(r"(#?)(\w+) = ", line)
        if header:
            kind = header[1]
            found.setdefault(kind, [])
        elif setting:
            found[kind].append((index, not setting[1], setting[2], line))
    return found


def test_the_example_shows_every_key() -> None:
    found = sections(EXAMPLE)
    for kind in ("vcenter", "repository", "defaults", "vm", "limits"):
        assert {key for _, _, key, _ in found[kind]} == set(KEYS[kind]), kind
    assert {key for _, _, key, _ in found[""]} | set(found) - {""} == set(KEYS[""])
    for key in (*KEYS["disks"], *KEYS["limit"], *KEYS["secret"]):
        assert re.search(rf"[{{ ]{key} = ", EXAMPLE), key
    assert max(map(len, EXAMPLE.splitlines())) <= 120


def test_the_example_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["config", "example"]) == 0
    text = capsys.readouterr().out
    assert text == EXAMPLE
    monkeypatch.setenv("VCENTER_PASSWORD", HIDDEN)
    stubbed = text.replace('{file = "/etc/warmspare/vcenter.password"}', '{env = "VCENTER_PASSWORD"}')
    assert stubbed != text
    done = command("config", "check", "--config", private(tmp_path / "f.toml", stubbed.encode()))
    assert done.code == 0 and HIDDEN not in str(done.events)


def test_each_setting_of_the_example_that_is_off_may_be_taken_into_use() -> None:
    exclusive = [{"thumbprint", "ca_file"}, {"path", "instance_uuid", "name", "folder", "tag"}]
    needs = {"kms_key": "#encryption = ", "bucket_key": "#encryption = "}
    lines = EXAMPLE.splitlines()
    tried = 0
    starts = [i for i, line in enumerate(lines) if line.startswith("[")] + [len(lines)]
    for index, line in enumerate(lines):
        setting = re.match(r"#(\w+) = ", line)
        if not setting:
            continue
        rivals = next((group for group in exclusive if setting[1] in group), {setting[1]})
        begin, end = max((s for s in starts if s <= index), default=0), min(s for s in starts if s > index)
        changed = [
            other if not (begin <= i < end and other.partition(" = ")[0] in rivals) else "# " + other
            for i, other in enumerate(lines)
        ]
        changed[index] = line[1:]
        if needed := needs.get(setting[1]):
            changed = [other[1:] if other.startswith(needed) else other for other in changed]
        read("\n".join(changed))
        tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".a" * 100_000 + " = 1",
        "[a" + ".a" * 100_000 + "]",
        "[[a" + ' . "b"' * 100_000 + "]]",
        "x = {a" + ".'b'" * 100_000 + " = 1}",
        "x = 1\ny" + ".z" * 40 + " = 1",
    ],
)
def test_a_key_of_more_parts_than_any_has(text: str) -> None:
    """Each would be a table, and each has the path to it."""
    began = time.process_time()
    (told,) = problems(text)
    assert "a key has more than 32 parts" in told and f"line {text.count(chr(10)) + 1}" in told
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text", ['x = "' + "a." * 90 + '"', "# " + "a." * 90, 'x = """\n' + "a." * 90 + '"""', "x = [" + "1.5, " * 90 + "]"]
)
def test_dots_that_are_in_no_key(text: str) -> None:
    assert too_deep(text) is None


@pytest.mark.parametrize(
    "text", ['"' * 200_000, '"\\' * 100_000, "'" * 199_999, "'''" + "''x" * 70_000, '"""\\' * 50_000]
)
def test_strings_that_do_not_end_are_looked_at_once(text: str) -> None:
    began = time.process_time()
    assert too_deep(text) is None
    assert time.process_time() - began < 5


# a schema for editors


def test_the_schema_takes_what_there_is_and_refuses_what_it_can_know() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    whole = tomllib.loads(EXAMPLE)
    assert SCHEMA.is_valid(whole)
    everything = "\n".join(
        line[1:] if re.match(r"#[a-z_]+ = ", line) else line
        for line in EXAMPLE.splitlines()
        if not re.match(r"#(ca_file|instance_uuid|password) ", line)
    )
    assert SCHEMA.is_valid(tomllib.loads(everything)), list(SCHEMA.iter_errors(tomllib.loads(everything)))


@pytest.mark.parametrize(
    "text",
    [
        BASE + 'rpo = "5 minutes"',
        BASE + "rpo = 300",
        BASE + 'quiesce = "perhaps"',
        BASE + "level = 12",
        BASE + 'level = "3"',
        BASE + 'state = "relative"',
        BASE + 'spool_size = "200"',
        BASE + "unknown = 1",
        BASE + "disks = []",
        BASE + "disks = {include = []}",
        BASE + "disks = {only = [1]}",
        BASE + 'path = "/a/vm/b"',
        BASE.replace('name = "dc02"', ""),
        BASE.replace('name = "dc02"', 'instance_uuid = "x"'),
        BASE + "[limits]\nvms_at_once = 0",
        BASE + "[defaults]\nlimit = [{days = 'mon-xxx', rate = '1mbit'}]",
        BASE + "[defaults]\nlimit = [{from = '08:00', rate = '1mbit'}]",
        BASE + "[defaults]\nlimit = [{from = '8:00', to = '9:00', rate = '1mbit'}]",
        BASE + "[defaults]\nlimit = [{days = 'mon'}]",
        BASE + "[defaults]\nlimit = {}",
        BASE + "[defaults]\ntransport = 'pigeon'",
        BASE + "[defaults]\ntransport = ['nbd', 'nbd']",
        BASE + "[more]",
        vcenter("port = 70000"),
        vcenter("port = true"),
        vcenter('ca_file = "/x"'),
        vcenter("", without="host"),
        vcenter("", without="user"),
        vcenter("", without="password"),
        vcenter('password = "text"', without="password"),
        vcenter("password = {}", without="password"),
        vcenter('password = {env = "A", file = "/x"}', without="password"),
        vcenter('password = {env = "A B"}', without="password"),
        vcenter('password = {file = "x"}', without="password"),
        vcenter("password = {command = []}", without="password"),
        vcenter('thumbprint = "ab"', without="thumbprint"),
        BASE + '[repository.other]\nuri = "ftp://x"',
        BASE + "[repository.other]",
        BASE + '[repository.other]\nuri = "/x"\nregion = "r"',
        BASE + '[repository.other]\nuri = "s3://b/x"\nkms_key = "k"',
        BASE + '[repository.other]\nuri = "s3://b/x"\nbucket_key = true\nencryption = "aws:kms:dsse"',
        BASE + '[repository.other]\nuri = "s3://b/x"\nchecksum = "crc"',
        BASE + '[repository.other]\nuri = "s3://b/x"\nendpoint_url = "b.example"',
        BASE + '[repository." "]\nuri = "s3://b/x"',
    ],
)
def test_what_the_schema_refuses_is_wrong(text: str) -> None:
    assert not SCHEMA.is_valid(tomllib.loads(text))
    assert problems(text)


def test_each_key_stands_in_the_schema_with_what_it_means() -> None:
    defined = {**schema()["$defs"], "": schema()}
    for kind, keys in KEYS.items():
        if kind != "secret":
            assert set(defined[kind]["properties"]) == set(keys), kind
    for kind in ("vcenter", "repository", "defaults", "limits", "vm"):
        for key, shape in defined[kind]["properties"].items():
            assert set(shape) & {"type", "enum", "anyOf", "$ref"}, (kind, key)
            assert shape.get("description") or key in explained()[kind] or kind == "vm", (kind, key)
            for shown in shape.get("examples", []):
                assert jsonschema.Draft202012Validator({**shape, "$defs": schema()["$defs"]}).is_valid(shown), (
                    kind,
                    key,
                )
    assert "How old the newest restore point may be." in str(defined["vm"]["properties"]["rpo"])


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema"]) == 0
    assert capsys.readouterr().out == schema_text()


# what is kept


def test_a_retention_policy_key_by_key() -> None:
    got = read(
        BASE
        + """
[defaults]
keep_last = 8
keep_daily = 14
keep_within = "2d"
time_zone = "Europe/Berlin"
[vm.a]
name = "a"
keep_daily = 0
keep_yearly = 3
keep_within = "0"
trust_created = true
time_zone = "UTC"
"""
    )
    usual, other = got.vm("dc02").policy.retention, got.vm("a").policy.retention
    assert usual == RetentionSettings(keep_last=8, keep_daily=14, keep_within_s=172800, time_zone="Europe/Berlin")
    assert other == RetentionSettings(keep_last=8, keep_yearly=3, trust_created=True)
    assert read(BASE).vm("dc02").policy.retention == RetentionSettings()


def test_a_retention_policy_has_the_fields_of_the_rules_that_are_applied() -> None:
    usual = RetentionPolicy(**asdict(RetentionSettings()))
    assert usual == RetentionPolicy() and usual.empty
    assert {one.removesuffix("_s") for one in asdict(RetentionSettings())} == set(retention_settings.KEYS)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("keep_last = -1", "a whole number from 0 to 1000000 was expected"),
        ("keep_daily = true", "a whole number from 0"),
        ('keep_hourly = "24"', "a whole number from 0"),
        ("keep_within = 7", "a duration was expected"),
        ('keep_within = "2 days"', "a duration was expected"),
        ('time_zone = "Berlin"', r"this host knows no time zone 'Berlin' .*line 11, vm\.dc02\.time_zone"),
        ('time_zone = "../../etc/passwd"', "this host knows no time zone"),
        ('time_zone = ""', "the text is empty"),
        ("time_zone = 1", "put it in quotes"),
        ('trust_created = "yes"', "true or false was expected"),
        ("keep_weeks = 8", "did you mean keep_weekly"),
    ],
)
def test_a_retention_policy_that_is_wrong(line: str, expected: str) -> None:
    assert re.search(expected, problem(vm(line)))


def test_options_say_what_the_configuration_does() -> None:
    class Given(RetentionOptions):
        pass

    words = ["--keep-daily", "0", "--keep-last=3", "--keep-within", "36h", "--time-zone", "Asia/Tokyo"]
    rules = parsed("x", "", Given, words).rules()
    base = RetentionSettings(keep_daily=9, keep_weekly=2, trust_created=True)
    assert rules.over(base) == RetentionSettings(
        keep_last=3, keep_within_s=129600, keep_weekly=2, time_zone="Asia/Tokyo", trust_created=True
    )
    assert parsed("x", "", Given, []).rules().over(base) == base
    assert parsed("x", "", Given, ["--trust-created"]).rules().over(RetentionSettings()).trust_created
    for wrong, expected in (
        (["--keep-within", "x"], r"a duration was expected, not 'x' \(--keep-within\)"),
        (["--time-zone", "Mars"], r"no time zone 'Mars' \(--time-zone\)"),
        (["--keep-last", "-1"], "--keep-last is to be at least 0"),
    ):
        with pytest.raises(ConfigError, match=expected):
            parsed("x", "", Given, wrong).rules()


@pytest.mark.program
def test_the_check_tells_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", HIDDEN)
    path = private(tmp_path / "f.toml", vm('keep_last = 8\nkeep_within = "36h"\n[vm.b]\nname="b"').encode())
    [ok] = command("config", "check", "--config", path).events
    assert [one["retention"]["keep_last"] for one in ok["vms"]] == [8, 0]
    assert ok["vms"][0]["retention"]["keep_within_s"] == 129600 and ok["vms"][0]["retention"]["time_zone"] == "UTC"
    shown = subprocess.run(
        [sys.executable, "-m", "warmspare", "config", "check", "--config", path], capture_output=True, text=True
    )
    words = " ".join(shown.stdout.split())
    assert "last 8, within 1d12h (UTC)" in words and "every restore point is kept" in words
