"""What is written of a guest: inside of the given folder, whole or not at all, and nothing that acts."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from warmspare.recover.disks.confined import Spent
from warmspare.recover.files import file_listing, file_restoring
from warmspare.recover.files.file_lines import (
    EntryLine,
    FileLine,
    FullLine,
    LeftLine,
    NoteLine,
    RestoredLine,
    TotalLine,
)
from warmspare.recover.files.file_listing import FileListing, ListingWish
from warmspare.recover.files.file_restoring import FileRestoring, RestoringWish
from warmspare.recover.files.guest_entry import EntryKind, GuestEntry, UnreadGuestError, unsafe
from warmspare.recover.files.restored_folder import PART, RestoredFolder

SECRET, MIB = b"the host's own", 1 << 20
Held = tuple[GuestEntry, bytes]


def file(name: str, data: bytes = b"x", mode: int | None = 0o644, *, says: int | None = None) -> Held:
    return GuestEntry(name, EntryKind.FILE, len(data) if says is None else says, 1_500_000_000, mode), data


def folder(name: str, mode: int = 0o755) -> Held:
    return GuestEntry(name, EntryKind.FOLDER, None, 1_400_000_000, mode), b""


def link(name: str, target: str) -> Held:
    return GuestEntry(name, EntryKind.LINK, None, 1_500_000_000, 0o777, target), b""


class Guest:
    """A tree of a guest, for what asks `GuestPaths` and `GuestTree`: what each folder holds."""

    def __init__(self, folders: dict[str, Sequence[Held]]) -> None:
        self._folders = folders

    def parsed(self, text: str) -> tuple[Guest, str, str]:
        return self, text, ""

    def entry(self, path: str) -> tuple[str, GuestEntry]:
        above, _, name = path.rpartition("/")
        found = [entry for entry, _ in self._folders.get(above or "/", ()) if entry.name == name]
        if path == "/":
            return path, GuestEntry("", EntryKind.FOLDER)
        if not found:
            raise UnreadGuestError("it is not there")
        return path, found[0]

    def entries(self, path: str) -> Iterator[GuestEntry]:
        if path not in self._folders:
            raise UnreadGuestError("its folder is damaged")
        yield from (entry for entry, _ in self._folders[path])

    def ahead(self, path: str, files: Sequence[GuestEntry]) -> None:
        assert len(files) > 1 and all(entry.kind is EntryKind.FILE for entry in files)

    def chunks(self, path: str) -> Iterator[bytes]:
        above, _, name = path.rpartition("/")
        data = next(data for entry, data in self._folders[above or "/"] if entry.name == name)
        if data == b"broken":
            yield data[:3]
            raise UnreadGuestError("Linux can't read it: I/O error")
        yield from (data[at : at + MIB] for at in range(0, len(data), MIB))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder to restore into, beside what must not change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(SECRET)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def work(home: Path, guest: Guest, *paths: str, force: bool = False) -> list[FileLine]:
    lines: list[FileLine] = []
    target = RestoredFolder(os.open(home, os.O_RDONLY | os.O_DIRECTORY))
    FileRestoring(guest, RestoringWish(paths, force), target, "home", lines.append).run()  # type: ignore[arg-type]
    return lines


def restored(home: Path, guest: Guest, *paths: str, force: bool = False) -> list[FileLine]:
    """What is told; and what must be true of all that was made."""
    lines = work(home, guest, *(paths or ("/top",)), force=force)
    assert (home.parent / "outside/secret").read_bytes() == SECRET and len(list(home.parent.iterdir())) == 2
    for path in home.rglob("*"):
        found = path.lstat()
        kind = stat.S_IFMT(found.st_mode)
        assert path.name != PART and kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        assert kind == stat.S_IFLNK or not found.st_mode & 0o7000
        if kind == stat.S_IFLNK:
            assert Path(os.path.realpath(path)).is_relative_to(home) or not path.exists()
    return lines


def left(lines: list[FileLine]) -> dict[str, str]:
    return {line.path: line.why for line in lines if isinstance(line, LeftLine)}


def of(*held: Held, **below: Sequence[Held]) -> Guest:
    """/top with these, and folders in it."""
    return Guest({"/": [folder("top")], "/top": held, **{f"/top/{name}": inside for name, inside in below.items()}})


def test_contents_times_and_modes_come_as_the_reader_gives_them(home: Path) -> None:
    sparse = b"head" + bytes(3 << 20) + b"tail" + bytes(200_000)
    guest = of(
        file("a b", b"text", 0o640),
        file("sparse", sparse),
        file("none", b"", None),
        folder("in", 0o2710),
        **{"in": [file("x")]},
    )
    total = restored(home, guest)[-1]
    assert total == TotalLine(4, 2, 4 + len(sparse) + 1)
    top = home / "top"
    assert (top / "a b").read_bytes() == b"text" and (top / "sparse").read_bytes() == sparse
    assert (top / "sparse").stat().st_blocks * 512 < 1 << 20
    assert stat.S_IMODE((top / "a b").stat().st_mode) == 0o640 and (top / "a b").stat().st_mtime == 1_500_000_000
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((top / "none").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((top / "in").stat().st_mode) == 0o710 and (top / "in").stat().st_mtime == 1_400_000_000
    assert (top / "in/x").read_bytes() == b"x"


BAD_NAMES = ["..", ".", "", "a/b", "../../outside/secret", "/etc/x", "a\nb", "\x1b[2J", "n" * 256, "é" * 128]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_no_file_should_have_are_not_made(home: Path, name: str) -> None:
    assert unsafe(name)
    for one in (file(name), folder(name), link(name, "x")):
        lines = restored(home, of(one, file("good")))
        assert len(left(lines)) == 1 and [path.name for path in (home / "top").iterdir()] == ["good"]
    (home / "top/good").unlink()


def test_names_that_are_no_utf8_are_made_as_they_are(home: Path) -> None:
    odd = "\udcff\udc80x"
    restored(home, of(file(odd), link("\udcfe", odd), folder("d\udcff"), **{"d\udcff": [file("é日")]}))
    names = sorted(os.fsencode(path.relative_to(home / "top")) for path in (home / "top").rglob("*"))
    assert names == [b"d\xff", b"d\xff/\xc3\xa9\xe6\x97\xa5", b"\xfe", b"\xff\x80x"]
    assert os.fsencode((home / "top/\udcfe").readlink()) == b"\xff\x80x"


def test_what_has_a_files_name_stays_unless_it_is_said(home: Path) -> None:
    top = home / "top"
    top.mkdir(mode=0o701)
    (top / "same").write_bytes(b"x")
    (top / "other").write_bytes(b"mine")
    (top / "equal").write_bytes(b"y")
    (top / "away").symlink_to(home.parent / "outside/secret")
    (top / "dangling").symlink_to(home.parent / "outside/new")
    (top / "folder").mkdir()
    os.mkfifo(top / "fifo")
    names = ("same", "other", "equal", "away", "dangling", "folder", "fifo")
    guest = of(*(file(name) for name in names))
    lines = work(home, guest, "/top")
    assert sorted(left(lines)) == [f"/top/{name}" for name in sorted(names) if name != "same"]
    assert lines[-1] == TotalLine(1, 1, 1, 0, 1)
    assert (top / "other").read_bytes() == b"mine" and (top / "away").is_symlink() and (top / "folder").is_dir()
    lines = restored(home, guest, force=True)
    assert left(lines) == {"/top/folder": "a folder has its name"}
    for name in names:
        assert name == "folder" or ((top / name).read_bytes() == b"x" and not (top / name).is_symlink())
    assert stat.S_IMODE(top.stat().st_mode) == 0o701  # it was there


def test_no_link_on_this_host_is_followed_to_a_folder(home: Path) -> None:
    (home / "top").mkdir()
    (home / "top/in").symlink_to(home.parent / "outside")
    for force in (False, True):
        guest = of(folder("in"), **{"in": [file("secret", b"stolen"), file("planted")]})
        lines = work(home, guest, "/top", force=force)
        assert left(lines) == {"/top/in": "something that is no folder has its name"}
    assert [path.name for path in (home.parent / "outside").iterdir()] == ["secret"]
    assert (home.parent / "outside/secret").read_bytes() == SECRET


@pytest.mark.parametrize("target", [".", "../../outside"])
def test_a_link_that_the_guest_puts_in_a_folders_place_is_not_followed(home: Path, target: str) -> None:
    """The same name thrice, as no sound file system has it: a link, a folder, a file."""
    guest = of(link("in", target), folder("in"), file("in"), **{"in": [file("x")]})
    assert sum(isinstance(line, LeftLine) for line in restored(home, guest, force=True)) == 2


@pytest.mark.parametrize(
    ("target", "made"),
    [
        ("file", True),
        ("./in/../in", False),
        ("../file", True),
        ("../../file", True),
        ("../../../outside/secret", False),
        ("in/../../../x", False),
        ("/etc/passwd", False),
        ("", False),
        ("..", True),
        ("../..", True),
        ("../../..", False),
        ("a/./b", True),
    ],
)
def test_links_are_made_where_they_stay_inside(home: Path, target: str, made: bool) -> None:
    """Of /top/in/link, whose folder is two below the one that is restored into."""
    lines = restored(home, of(folder("in"), **{"in": [link("link", target)]}))
    assert os.path.lexists(home / "top/in/link") is made
    if made:
        assert str((home / "top/in/link").readlink()) == str(Path(target)) and lines[-1] == TotalLine(0, 2, 0, 1)
        assert (home / "top/in/link").lstat().st_mtime == 1_500_000_000
    else:
        (line,) = (line for line in lines if isinstance(line, LeftLine))
        assert line.path == "/top/in/link" and not line.failed and target in line.why


def test_a_link_that_is_there_counts_as_there_and_others_are_replaced_by_force_alone(home: Path) -> None:
    restored(home, of(link("a", "x"), link("b", "x")))
    again = restored(home, of(link("a", "x"), link("b", "y")))
    assert "something else has its name" in left(again)["/top/b"] and again[-1] == TotalLine(0, 1, 0, 1, 1)
    restored(home, of(link("b", "y")), force=True)
    assert str((home / "top/b").readlink()) == "y"


def test_of_names_that_collide_the_first_stays(home: Path) -> None:
    """Twice the same; and in two cases, as a file system that does not care for it shows them."""
    lines = restored(home, of(file("a", b"first"), file("a", b"second"), file("A", b"third")), force=True)
    assert left(lines) == {"/top/a": "another file that was restored has its name here"}
    assert (home / "top/a").read_bytes() == b"first"
    notes = [line.path for line in lines if isinstance(line, NoteLine)]
    assert notes == ["/top/a", "/top/A"]
    lines = restored(home, of(folder("d"), folder("d"), d=[file("x")]))
    assert left(lines) == {"/top/d": "another folder that was restored has its name here"}


def test_set_bits_are_dropped_and_said(home: Path) -> None:
    lines = restored(home, of(file("su", b"x", 0o6755), folder("tmp", 0o1777), tmp=[]))
    assert stat.S_IMODE((home / "top/su").stat().st_mode) == 0o755
    notes = {line.path: line.text for line in lines if isinstance(line, NoteLine)}
    assert "set-user-ID and set-group-ID" in notes["/top/su"] and "sticky" in notes["/top/tmp"]


def test_what_is_no_file_is_not_made(home: Path) -> None:
    lines = restored(home, of((GuestEntry("null", EntryKind.OTHER), b""), file("good")))
    (line,) = (line for line in lines if isinstance(line, LeftLine))
    assert "device" in line.why and not line.failed and not (home / "top/null").exists()


@pytest.mark.parametrize("says", [0, 3, 1 << 40, 1 << 62])
def test_a_size_that_is_not_true_costs_the_file_alone(home: Path, says: int) -> None:
    lines = restored(home, of(file("lies", b"12345", says=says), file("good")))
    assert list(left(lines)) == ["/top/lies"] and [path.name for path in (home / "top").iterdir()] == ["good"]


def test_a_file_that_can_not_be_read_to_its_end_is_not_left(home: Path) -> None:
    (home / "top").mkdir()
    (home / "top/bad").write_bytes(b"older!")
    lines = restored(home, of(file("bad", b"broken"), file("new", b"broken"), file("good")), force=True)
    assert left(lines) == dict.fromkeys(("/top/bad", "/top/new"), "Linux can't read it: I/O error")
    assert (home / "top/bad").read_bytes() == b"older!" and not (home / "top/new").exists()


def test_a_folder_that_is_damaged_is_said_and_the_rest_goes_on(home: Path) -> None:
    lines = restored(home, of(folder("gone"), folder("in"), **{"in": [file("x")]}))
    assert left(lines) == {"/top/gone": "its folder is damaged"} and (home / "top/in/x").exists()


def test_paths_that_are_missing_or_meet_are_said(home: Path) -> None:
    guest = Guest({"/": [file("a", b"1"), folder("b")], "/b": [file("a", b"2")]})
    lines = restored(home, guest, "/a", "/b/a", "/nope", "/b")
    assert list(left(lines)) == ["/b/a", "/nope"]
    assert (home / "a").read_bytes() == b"1" and (home / "b/a").read_bytes() == b"2"


def test_a_loop_of_folders_ends(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loop(Guest):
        def entries(self, path: str) -> Iterator[GuestEntry]:
            yield GuestEntry("d", EntryKind.FOLDER, None, None, 0o755)

    monkeypatch.setattr(file_restoring, "MOST_DEPTH", 12)
    lines = restored(home, Loop({"/": [folder("d")]}), "/d")
    assert list(left(lines).values()) == ["it is more than 12 folders deep"]
    monkeypatch.setattr(file_listing, "MOST_DEPTH", 12)
    told: list[FileLine] = []
    FileListing(Loop({}), ListingWish(("/",), True), told.append).run()  # type: ignore[arg-type]
    assert "too deep" in next(iter(left(told).values())) and len(told) < 20


def test_files_without_end_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (file_restoring, file_listing):
        monkeypatch.setattr(module, "MOST_FILES", 10)
    guest = of(*(file(f"f{number}") for number in range(20)))
    with pytest.raises(Spent, match="more than 10 files"):
        restored(home, guest)
    told: list[FileLine] = []
    with pytest.raises(Spent, match="more than 10 files"):
        FileListing(guest, ListingWish(("/top",), True), told.append).run()  # type: ignore[arg-type]
    assert len(told) == 10


def test_a_full_file_system_ends_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def full(fd: int, data: memoryview) -> int:
        if bytes(data[:3]) == b"big":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    lines = restored(home, of(file("a", b"a" * 70_000), file("b", b"big" * 40_000), file("c")))
    assert isinstance(lines[-1], FullLine) and lines[-1].path == "/top/b" and "No space" in lines[-1].why
    assert [path.name for path in (home / "top").iterdir()] == ["a"]


def test_what_a_killed_run_left_goes(home: Path) -> None:
    (home / "top").mkdir()
    (home / "top" / PART).write_bytes(b"half")
    lines = restored(home, of(file("a"), file(PART, b"the guest's")))
    assert left(lines) == {f"/top/{PART}": "its name is one that a restore uses itself"}


def test_two_runs_do_not_meet_in_a_folder(home: Path) -> None:
    (home / "top").mkdir()
    other = RestoredFolder(os.open(home / "top", os.O_RDONLY))
    other.lock()
    lines = restored(home, of(file("a")))
    assert left(lines) == {"/top": "another restore is at work in this folder"}
    other.close()
    assert left(restored(home, of(file("a")))) == {}


def test_lists_are_sorted_and_tell_what_came_before_an_error() -> None:
    class Broken(Guest):
        def entries(self, path: str) -> Iterator[GuestEntry]:
            yield from (entry for entry, _ in (file("b"), folder("a/b"), file("a")))
            raise UnreadGuestError("its folder can't be read to its end")

    told: list[FileLine] = []
    FileListing(Broken({}), ListingWish(("/",), True), told.append).run()  # type: ignore[arg-type]
    assert [line.path for line in told if isinstance(line, EntryLine)] == ["/a", "/a/b", "/b"]
    assert list(left(told)) == ["/"] and told[-1] == TotalLine(2, 1, 2)


def test_restored_lines_name_both_places(home: Path) -> None:
    lines = restored(home, of(file("\udcff")))
    assert lines[0] == RestoredLine("/top/\\xff", "home/top/\\xff", 1, False, "")
