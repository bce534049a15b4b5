"""What comes from outside to the commands: names, streams, and what stands in the place of files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from rig import Rig, command
from rigs.damage import hostile
from rigs.host.hearing import heard
from warmspare.cli.main import run as main
from warmspare.observe.events import Events

KINDS = ("fifo", "link", "directory")


def stand(path: Path, kind: str) -> None:
    """Something else than a file in its place."""
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


def run(*arguments: object, stdout: object = subprocess.PIPE, closed: str = "", **env: str) -> tuple[int, bytes, str]:
    """The command in a process of its own."""
    words = [sys.executable, "-m", "warmspare", *map(str, arguments)]
    if closed:
        words = ["sh", "-c", f'exec "$@" {closed}', "sh", *words]
    done = subprocess.run(
        words,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=os.environ | env,
        timeout=120,  # type: ignore[call-overload]
    )
    return done.returncode, done.stdout or b"", done.stderr.decode()


@pytest.fixture(scope="module")
def runner() -> Iterator[hostile.Runner]:
    with hostile.Runner() as made:
        yield made


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    rig.disk.write_bytes(os.urandom(300_000))
    rig.sync()
    return rig


@pytest.mark.parametrize("name", ["[/x]", "db [prod]", "[link=file:///etc/passwd]web", ":fire: [bold]x[/bold]"])
def test_names_with_brackets_are_printed_as_they_are(tmp_path: Path, runner: hostile.Runner, name: str) -> None:
    rig = Rig(tmp_path, vm=name)
    rig.disk.write_bytes(os.urandom(100_000))
    rig.sync()
    rig.apply()
    again = tmp_path / "again.raw"
    on_terminal = runner.run("apply", "--vm", name, "--repo", rig.repo, "--to", again, home=tmp_path)
    audit = runner.run(
        "audit",
        "replica",
        "--vm",
        name,
        "--repo",
        rig.repo,
        "--replica",
        rig.replica,
        "--reports",
        tmp_path / "a [b] c",
        home=tmp_path,
    )
    listed = runner.run("points", "--repo", rig.repo, home=tmp_path)
    for ended in (on_terminal, audit, listed):
        assert ended.code == 0 and not ended.wrong(), ended
        assert name in ended.output
    assert "a [b] c/0" in audit.output


def test_a_stdout_that_lacks_characters_says_escapes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, vm="wüb \U0001f525")
    rig.disk.write_bytes(os.urandom(100_000))
    rig.sync()
    code, said, errors = run("points", "--repo", rig.repo, PYTHONIOENCODING="ascii")
    assert (code, errors) == (0, "") and b"VM w\\xfcb \\U0001f525" in said
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    code, said, _ = run("points", "--repo", rig.repo, "--json", **plain)
    assert code == 0 and said.isascii() and heard(said.splitlines()[0])["vm"] == rig.vm
    code, said, _ = run("points", "--repo", rig.repo, PYTHONIOENCODING="latin-1")
    assert code == 0 and "VM wüb \\U0001f525".encode("latin-1") in said
    code, said, errors = run("points", "--repo", b"r\xff\x1b[2J".decode(errors="surrogateescape"), "--json")
    assert code == 2 and "/r%FF%1B%5B2J" in errors and heard(said)["where"].isascii()


def test_a_stdout_that_takes_nothing(rig: Rig) -> None:
    with open("/dev/full", "wb") as full:
        for words in (["points", "--repo", rig.repo], ["points", "--help"]):
            code, _, errors = run(*words, stdout=full, XDG_STATE_HOME=str(rig.home / "xdg"))
            assert code == 4 and errors.count("\n") == 1 and "No space left" in errors, errors
    for closed in (">&-", ">&- 2>&- <&-", "| true"):
        code, _, errors = run("points", "--repo", rig.repo, closed=closed)
        assert (code, errors) == (0, ""), closed


def test_escapes_in_records_reach_no_terminal(rig: Rig, runner: hostile.Runner) -> None:
    path = rig.point_path(1)
    record = json.loads(path.read_bytes())
    for text in hostile.TEXTS[:9]:
        path.write_text(json.dumps(record | {"vm_name": text, "software": text}))
        ended = runner.run("points", "--repo", rig.repo, home=rig.home)
        assert ended.code == 0 and not ended.wrong(), ended
        assert ended.output.count("\n") == 4, "no line of it is forged"


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_place_of_a_repositorys_objects(rig: Rig, kind: str) -> None:
    objects = [*rig.objects("manifests"), *rig.objects("packs")]
    for path in [Path(rig.repo) / "repository.json", rig.point_path(1), *objects]:
        kept = path.read_bytes()
        stand(path, kind)
        errors = rig.apply(to=rig.home / "new.raw", code=4).stderr
        assert "stands where" in errors and path.name in errors, errors
        path.rmdir() if kind == "directory" else path.unlink()
        path.write_bytes(kept)


def test_a_repositorys_folder_that_leads_elsewhere(rig: Rig) -> None:
    """Also in a circle, which would be listed for ever."""
    away = rig.home / "away"
    rig.root.rename(away)
    for to in (str(away), "..", "."):
        rig.root.symlink_to(to)
        outcome = command("points", "--repo", rig.repo)
        assert outcome.code == 4 and "a symbolic link stands where a directory belongs" in outcome.stderr
        assert rig.sync(code=4)
        rig.root.unlink()


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_place_of_local_files(rig: Rig, kind: str) -> None:
    """Of a sender's state, a replica's, a configuration, a plan, extents, what was seen before."""
    home = next(path.parent for path in rig.state.rglob("state.json"))
    for path in (home / "state.json", home / "lock", next(home.rglob("table")), next(home.rglob("pagemap"))):
        kept = path.read_bytes()
        stand(path, kind)
        errors = rig.sync(code=4).stderr
        assert "stands where a file belongs" in errors, (path, errors)
        path.rmdir() if kind == "directory" else path.unlink()
        path.write_bytes(kept)
    rig.apply()
    record = rig.home / "replica.raw.warmspare" / "replica.json"
    kept = record.read_bytes()
    stand(record, kind)
    rig.apply(code=4)
    record.rmdir() if kind == "directory" else record.unlink()
    record.write_bytes(kept)
    odd = rig.home / "odd"
    stand(odd, kind)
    for words in (
        ["config", "check", "--config", odd],
        ["sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, "--extents", odd],
        ["failover", "--plan", odd, "--all"],
    ):
        outcome = command(*words)
        assert outcome.code == 2 and "stands where a file belongs" in outcome.stderr, outcome


def test_state_that_leads_out_of_its_place(rig: Rig) -> None:
    away = rig.home / "away"
    home = next(path.parent for path in rig.state.rglob("state.json"))
    home.rename(away)
    home.symlink_to(away)
    outcome = rig.sync(code=4)
    assert "a symbolic link stands where a directory belongs" in outcome.stderr and str(home) in outcome.stderr


@pytest.mark.parametrize("name", ["../victim", "/etc/victim", "..", "a/../../victim"])
def test_a_replicas_record_that_names_a_file_elsewhere(rig: Rig, name: str) -> None:
    from warmspare.state.local_files import read_record, write_record
    from warmspare.state.replica_record import ReplicaRecord

    rig.apply()
    path = rig.home / "replica.raw.warmspare" / "replica.json"
    record = read_record(path, ReplicaRecord, "x", Events())
    assert record
    disks = [msgspec.structs.replace(disk, path=name) for disk in record.disks]
    write_record(path, msgspec.structs.replace(record, disks=disks), "x")
    outcome = rig.apply(code=2)
    assert "the replica's state is damaged" in outcome.stderr


def test_a_page_takes_the_place_of_a_page_only(rig: Rig) -> None:
    rig.apply()

    def audit(page: Path, code: int = 0) -> str:
        done = command(
            "audit",
            "replica",
            "--vm",
            rig.vm,
            "--repo",
            rig.repo,
            "--replica",
            rig.replica,
            "--reports",
            rig.home / "reports",
            "--html",
            page,
        )
        assert done.code == code, done
        return done.stderr

    page = rig.home / "page.html"
    beside = rig.home / "page.html.new"
    beside.write_text("mine")
    audit(page)
    first = page.read_bytes()
    audit(page)
    assert page.read_bytes() != first and beside.read_text() == "mine"
    assert not list(rig.home.glob(".warmspare-*"))
    victim = rig.home / "notes.html"
    for text in ("mine", "", "<!DOCTYPE html>\n<html><head>mine</head></html>"):
        victim.write_text(text)
        reports = len(list((rig.home / "reports").iterdir()))
        assert "a file that this program did not write" in audit(victim, code=2)
        assert victim.read_text() == text and len(list((rig.home / "reports").iterdir())) == reports, "told before"
    link = rig.home / "link.html"
    link.symlink_to(page)
    assert "a symbolic link" in audit(link, code=2) and link.is_symlink()
    os.mkfifo(rig.home / "fifo.html")
    assert "a FIFO" in audit(rig.home / "fifo.html", code=2)


def test_a_demo_works_in_no_directory_of_the_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "disk.raw").write_text("mine")
    assert main(["demo", "--keep", str(tmp_path)]) == 2
    assert "--keep is not empty" in capsys.readouterr().err and (tmp_path / "disk.raw").read_text() == "mine"


@pytest.mark.parametrize("content", ["line", "file", "zeros", "lines"])
def test_extents_without_end(rig: Rig, runner: hostile.Runner, content: str) -> None:
    path = rig.home / "extents"
    with path.open("wb") as file:
        if content == "line":
            file.write(b"0 1 " * 5_000_000)
        elif content == "lines":
            file.write(b"\n" * 4_000_001)
        else:
            file.write(b"0 1\n")
            file.truncate(1 << 40 if content == "file" else 8 << 20)
    ended = runner.run(
        "sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, "--extents", path, home=rig.home
    )
    assert ended.code == 2 and not ended.wrong() and ended.seconds < 20, ended
    assert re.search("more than 64 MiB|not `offset length`|more than 4000000 lines", ended.output)


def test_a_repository_by_a_path_that_is_not_utf_8(tmp_path: Path) -> None:
    """Records call it by a URI of ASCII, by which it is found too."""
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/r\xffp")
    rig = Rig(tmp_path, repo=odd)
    rig.disk.write_bytes(os.urandom(100_000))
    rig.sync()
    rig.apply()
    assert rig.sync().code == 0 and rig.replica.read_bytes() == rig.disk.read_bytes()
    uri = f"file://{tmp_path}/r%FFp"
    assert command("points", "--repo", uri).last("points.done")["count"] == 2
    audit = command("audit", "repository", "--repo", odd, "--reports", tmp_path / "reports")
    assert audit.code == 0 and command("recover", "check", "--vm", rig.vm, "--replica", rig.replica).code == 5
    assert command("copy", "--from", odd, "--to", uri).code == 2, "they are the same"


def test_a_user_without_a_home(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container a user may have a number alone."""
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(Path, "home", nowhere)
    for words, instead in (
        (["config", "check"], "XDG_CONFIG_HOME"),
        (["audit", "verify-report"], "XDG_STATE_HOME"),
        (["sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo], "XDG_STATE_HOME"),
        (["copy", "--from", rig.repo, "--to", rig.home / "x"], "XDG_STATE_HOME"),
    ):
        done = command(*words)
        assert done.code == 2 and f"no home directory; set {instead}, or HOME" in done.stderr, done


def nowhere() -> Path:
    raise RuntimeError("Could not determine home directory.")
