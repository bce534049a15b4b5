"""What others wrote and named: text, files and JSON."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from warmspare.errors import FormatError
from warmspare.format import restore_point
from warmspare.outside import records
from warmspare.outside.paging import EMPTY_PAGES, EndlessError, Paging
from warmspare.outside.parsing import SwellingError, demand_plain
from warmspare.outside.records import Count, UnfitError
from warmspare.outside.regular_files import (
    NotRegularError,
    demand_folders,
    open_below,
    open_regular,
    read_regular,
    stat_below,
)
from warmspare.outside.text import json_safe, shown

# text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("web [prod]", "web [prod]"),
        ("größe \U0001f525 日本\u3000語", "größe \U0001f525 日本\u3000語"),
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("a\u202eb\u2066c\u200f", "a\\u202eb\\u2066c\\u200f"),
        ("pay\u200bpal\ufeff\u2060", "pay\\u200bpal\\ufeff\\u2060"),
        ("half \ud83d \udcff", "half \\ud83d \\udcff"),
        ("\U000e0041\u2028\xad", "\\U000e0041\\u2028\\xad"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),  # a part of the spelling
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("ad\u200dmin", "ad\\u200dmin"),
    ],
)
def test_what_acts_or_hides_is_shown(text: str, says: str) -> None:
    assert shown(text) == says
    assert json.loads(json_safe(json.dumps({"a": text}, ensure_ascii=False))) == {"a": text}
    assert shown(json_safe(json.dumps(text, ensure_ascii=False))) == json_safe(json.dumps(text, ensure_ascii=False))


def test_lines_stay_where_they_may() -> None:
    assert shown("a\n\x1b\n", lines=True) == "a\n\\x1b\n"


# files


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def link(path: Path) -> None:
    path.with_name("elsewhere").write_bytes(b"another's")
    path.symlink_to("elsewhere")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


KINDS: list[tuple[Callable[[Path], None], str]] = [
    (fifo, "a FIFO"),
    (unix_socket, "a socket"),
    (link, "a symbolic link"),
    (loop, "a symbolic link"),
    (Path.mkdir, "a directory"),
]


@pytest.mark.parametrize(("make", "kind"), KINDS, ids=lambda one: getattr(one, "__name__", None))
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_CREAT])
def test_only_a_regular_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str, flags: int
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    path = Path("x")
    make(path)
    caught = []

    def ask() -> None:
        with pytest.raises(NotRegularError, match=f"{kind} stands where a file belongs") as error:
            open_regular(path, flags)
        caught.append(error.value)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(30)
    assert caught, "it hangs"
    assert make is not link or Path("elsewhere").read_bytes() == b"another's"


@pytest.mark.skipif(os.geteuid() != 0, reason="devices are made by root")
def test_a_device_is_refused(tmp_path: Path) -> None:
    os.mknod(tmp_path / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    with pytest.raises(NotRegularError, match="a device"):
        read_regular(tmp_path / "zero", 10)


def test_a_link_that_the_user_named_is_followed_to_a_file_and_no_further(tmp_path: Path) -> None:
    link(tmp_path / "x")
    assert read_regular(tmp_path / "x", 100, follow=True) == b"another's"
    (tmp_path / "y").symlink_to("/dev/zero")
    with pytest.raises(NotRegularError, match="a device"):
        read_regular(tmp_path / "y", 100, follow=True)
    with pytest.raises(OSError, match="more than the 3 bytes"):
        read_regular(tmp_path / "x", 3, follow=True)


def test_no_link_leads_out(tmp_path: Path) -> None:
    root, away = tmp_path / "root", tmp_path / "away"
    (root / "vms").mkdir(parents=True)
    (away / "points").mkdir(parents=True)
    (away / "points" / "1.json").write_bytes(b"away")
    (root / "vms" / "x").symlink_to(away)
    for ask in (open_below, stat_below):
        with pytest.raises(NotRegularError, match="a symbolic link stands where a directory belongs") as caught:
            ask(str(root), "vms/x/points/1.json")
        assert caught.value.filename == f"{root}/vms/x"
        with pytest.raises(ValueError, match="not a path below"):
            ask(str(root), "vms/../../away/points/1.json")
    with pytest.raises(NotRegularError):
        demand_folders(root, root / "vms" / "x" / "points")
    demand_folders(root, root / "vms" / "not" / "there")
    (tmp_path / "named").symlink_to(away)
    os.close(open_below(str(tmp_path / "named"), "points/1.json"))  # the root is what the user named


# records


class Small(msgspec.Struct):
    count: Count
    text: str = ""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"count": 1, "count": 1}', "its key 'count' stands twice"),
        (b'{"count": 1, "text": {"a": 1, "a": 1}}', "stands twice"),
        (b'{"count": 1', "not JSON, or was cut off"),
        (b"", "not JSON"),
        (b"[1]", "not an object"),
        (b'{"count": NaN}', "NaN is no number"),
        (b'{"count": -Infinity}', "-Infinity is no number"),
        (b'{"count": 1e999}', "beyond all bounds"),
        (b'{"count": 1.' + b"0" * 400 + b"e9}", "beyond all bounds"),
        (b'{"count": ' + b"9" * 400 + b"}", "beyond all bounds"),
        (b'{"count": ' + b"9" * 5000 + b"}", "beyond all bounds"),
        (b'{"count": -1}', ">= 0"),
        (b'{"count": 9223372036854775808}', "<= 9223372036854775807"),
        (b'{"count": true}', "Expected `int`"),
        (b'{"count": "1"}', "Expected `int`"),
        (b'{"count": 1, "text": "\\ud800"}', "lone surrogate"),
        (b'{"count": 1, "text": "\xff"}', "not UTF-8"),
        (b'{"count": ' + b"[" * 60 + b"]" * 60 + b"}", "nested deeper"),
        (b'{"count": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"count": [' + b"[]," * 1_000_000 + b"[]]}", "more values than a record"),
    ],
)
def test_a_record_that_is_none(data: bytes, why: str) -> None:
    with pytest.raises(UnfitError) as caught:
        records.decode(data, Small)
    assert why in str(caught.value) and len(str(caught.value)) < 300


POINT = {
    "format": 1,
    "flags": 0,
    "vm_id": "v",
    "vm_name": "v",
    "sequence": 1,
    "parent": None,
    "run": "b" * 32,
    "created": "2026-01-02T03:04:05Z",
    "software": "x",
    "bytes_read": 1,
    "bytes_changed": 2,
    "bytes_sent": 3,
    "disks": [
        {
            "id": "d",
            "name": "d.raw",
            "capacity_bytes": 1 << 20,
            "root": "a" * 64,
            "changed_blocks": 7,
            "manifest": {"key": "vms/v/manifests/r/000.manifest", "bytes": 10, "sha256": "0" * 64, "crc32c": 5},
        }
    ],
}


@pytest.mark.parametrize(
    "change",
    [
        {"bytes_changed": 10**400},
        {"bytes_read": -1},
        {"bytes_sent": 1.5},
        {"sequence": 10**10},
        {"created": "now"},
        {"created": "\x1b[2Jnow"},
        {"created": "2026-13-41T99:00:00Z"},
        {"vm_name": "x" * 5000},
        {"vm_name": None},
        {"hardware": {"memory_mib": [1]}},
        {"hardware": {"cpus": -1}},
        {"hardware": {"cpus": 10**15}},
        {"hardware": {"nics": "x"}},
        {"hardware": {"nics": ["x"]}},
        {"hardware": {"firmware": {}}},
        {"hardware": {"unknown": 1}},
        {"hardware": []},
        {"disks": POINT["disks"] * 2},
        {"disks": []},
        {"unprotected": [{"name": 1, "reason": ""}]},
        {"run": "B" * 32},
        {"run": "b" * 32 + "\n"},
        {"disks": [POINT["disks"][0] | {"changed_blocks": 17}]},
        {"disks": [POINT["disks"][0] | {"name": "../x"}]},
    ],
)
def test_a_point_with_a_field_that_can_not_be(change: dict[str, object]) -> None:
    restore_point.decode(json.dumps(POINT).encode(), "here")
    with pytest.raises(FormatError, match="the restore point record is damaged"):
        restore_point.decode(json.dumps(POINT | change).encode(), "here")


def test_hardware_that_is_not_known_is_none_of_ours() -> None:
    told = {"cpus": None, "firmware": "efi", "of a later version": [1, {"a": 2}]}
    assert restore_point.decode(json.dumps(POINT | {"hardware": told}).encode(), "here").hardware == told


# listings


def test_listings_that_end() -> None:
    paging = Paging()
    for number in range(3000):
        paging.page([f"k{number}", f"l{number}"] if number % 3 else [], f"t{number}")
    paging.page(["last"], None)


@pytest.mark.parametrize(
    "pages",
    [
        lambda n: (["a", "b"], f"t{n}"),  # the first page again and again, under other tokens
        lambda n: ([f"k{n}"], "t"),  # the token of the page itself
        lambda n: ([f"k{n}"], f"t{n % 5}"),  # round in a circle
        lambda n: ([], f"t{n}"),
        lambda n: ([f"k{n}-{i}" for i in range(1000)], f"t{n}"),  # keys without end
    ],
)
def test_listings_that_do_not_end(pages: Callable[[int], tuple[list[str], str]]) -> None:
    paging = Paging(most_items=100_000)
    with pytest.raises(EndlessError, match="the listing does not end"):
        for number in range(2 * EMPTY_PAGES):
            paging.page(*pages(number))


# answers


@pytest.mark.parametrize(
    "body",
    [
        b"<a/>" * 101,
        b"[" * 101,
        b'[{"a":[]}' * 34,
        b"<a " + b'b="" ' * 101 + b"/>",
        b"<a " + b"b='' " * 101 + b"/>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!DOCTYPE a [<!ATTLIST a b CDATA "c">]><a/>',
        "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>".encode("utf-16"),
        "<?xml version='1.0'?><a/>".encode("utf-16-be"),
        b"<?xml version='1.0' encoding='cp037'?>" + "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>".encode("cp037"),
        b"\xef\xbb\xbf<?xml version='1.0'\n encoding = \"UTF-7\"?><a/>",
    ],
)
def test_an_answer_that_would_swell_is_not_parsed(body: bytes) -> None:
    with pytest.raises(SwellingError):
        demand_plain(body, 100)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<a/>" * 100,
        b"<?xml version='1.0' encoding='UTF-8'?><a b='c'>\xc3\xbc</a>",
        b"<!DOCTYPE html><p>x",
        b"\xef\xbb\xbf<?xml version='1.0'?><a/>",
        b'{"a": [1, 2, "x=y<z"]}',
        b"<?xml version='1.0' encoding='ISO-8859-1'?>",
    ],
)
def test_an_answer_like_any_other(body: bytes) -> None:
    demand_plain(body, 100)
