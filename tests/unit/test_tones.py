"""How a command speaks: for people or programs, quietly or with details, and one document where that is asked for."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from rig import MIB, Rig, begun
from warmspare.cli.main import run
from warmspare.cli.telling.tone import Tone, chosen_tone
from warmspare.ending import json_asked
from warmspare.errors import ConfigError


def told(*words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([*map(str, words)])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "host"))
    rig = Rig(tmp_path)
    rig.disk.write_bytes(bytes(MIB))
    return rig


def sync(rig: Rig) -> list[object]:
    return ["sync", rig.disk, "--vm", "vm", "--repo", rig.repo, "--state", rig.state, *begun(rig.repo, "vm")]


def ageless(events: Iterable[dict[str, object]]) -> list[dict[str, object]]:
    """Without what another moment makes of it."""
    return [{name: value for name, value in event.items() if name != "age_seconds"} for event in events]


def test_a_document_is_one_value_and_holds_what_the_lines_hold(rig: Rig) -> None:
    first = told(*sync(rig), "--output", "json")
    assert first[0] == 0 and not first[2]
    events = json.loads(first[1])
    assert [event["event"] for event in events][-1] == "sync.done" and "progress" not in str(events)
    code, lines, _ = told("points", "--repo", rig.repo, "--output=jsonl")
    again = told("points", "--repo", rig.repo, "--json")
    document = told("--output", "json", "points", "-r", rig.repo)
    assert code == again[0] == document[0] == 0
    assert ageless(json.loads(document[1])) == ageless(map(json.loads, lines.splitlines()))
    assert ageless(map(json.loads, again[1].splitlines())) == ageless(map(json.loads, lines.splitlines()))


@pytest.mark.parametrize(
    "words",
    [
        ["points", "--repo", "/none/there"],
        ["points", "--nothing"],
        ["snapshots"],
        ["apply", "--vm", "x"],
        ["--repo", "/none/there", "prune"],
    ],
)
def test_a_document_has_the_error_too(words: list[str]) -> None:
    code, out, err = told("--output", "json", *words)
    [error] = json.loads(out)
    assert error["event"] == "error" and error["exit_code"] == code == 2
    assert err == f"warmspare: {error['message']}\n"


@pytest.mark.program
@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_a_reader_that_goes_away_and_a_signal_leave_what_parses(rig: Rig, form: str) -> None:
    assert told(*sync(rig))[0] == 0
    line = [sys.executable, "-m", "warmspare", "points", "--repo", rig.repo, "--output", form]
    cut = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert cut.stdout and cut.stderr
    cut.stdout.close()
    assert cut.stderr.read() == b"" and cut.wait(60) == 0
    following = [sys.executable, "-m", "warmspare", "apply", "--vm", "vm", "--repo", rig.repo]
    following += ["--to", str(rig.replica), "--follow", "--json"]
    child = subprocess.Popen(following, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout
    while json.loads(child.stdout.readline())["event"] != "apply.done":
        pass
    child.terminate()
    out, _ = child.communicate(timeout=60)
    assert json.loads(out.splitlines()[-1])["kind"] == "interrupted" and child.returncode == 130


@pytest.mark.program
def test_a_document_that_is_interrupted_is_whole(rig: Rig) -> None:
    rig.disk.write_bytes(bytes(range(256)) * (MIB >> 8) * 40)
    line = [sys.executable, "-m", "warmspare", *map(str, sync(rig)), "--limit", "64kbit", "--output", "json", "-v"]
    line[line.index("--state") + 1] = str(rig.home / "other")
    child = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    place = rig.home / "other"
    while child.poll() is None and not list(place.rglob("run.json")):
        pass
    child.terminate()
    out, _ = child.communicate(timeout=60)
    events = json.loads(out)
    assert child.returncode == 130 and events[-1]["kind"] == "interrupted" and len(events) > 1


def test_quiet_tells_what_matters_and_what_was_asked_for(rig: Rig) -> None:
    assert told(*sync(rig), "-q") == (0, "", "")
    assert told("points", "-r", rig.repo, "--quiet") == told("points", "-r", rig.repo)
    assert "vm" in told("status", "-r", rig.repo, "-q")[1]
    assert told("apply", "-r", rig.repo, "--vm", "vm", "--to", rig.replica, "-q") == (0, "", "")
    assert told("-q", "audit", "replica", "-r", rig.repo, "--vm", "vm", "--replica", rig.replica) == (0, "", "")
    with rig.replica.open("r+b") as file:
        file.write(b"other")
    code, out, err = told("audit", "replica", "-q", "-r", rig.repo, "--vm", "vm", "--replica", rig.replica)
    assert code == 5 and "FINDINGS" in out.upper() and not err
    code, out, err = told("-q", "apply", "-r", rig.repo, "--vm", "other", "--to", rig.replica)
    assert code == 2 and not out and err.count("\n") == 1
    code, out, _ = told(*sync(rig), "-q", "--json")
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["sync.done"]


def test_verbose_tells_what_is_used_and_who_said_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = told(*sync(rig), "-v")
    assert code == 0 and f"repository: {rig.repo} (by --repo)" in out and f"state: {rig.state} (by --state)" in out
    assert "disk.done disk=" in out or "disk.done vm=" in out
    monkeypatch.setenv("WARMSPARE_REPO", rig.repo)
    code, out, _ = told("points", "--verbose")
    assert code == 0 and f"repository: {rig.repo} (by WARMSPARE_REPO)" in out
    code, out, _ = told("points", "--json", "-v")
    first = json.loads(out.splitlines()[0])
    assert first == {"event": "using", "what": "repository", "value": rig.repo, "source": "WARMSPARE_REPO"}
    assert '"using"' not in told("points", "--json")[1]
    assert "by the usual place" in told("sync", "--all", "-v")[1]


def test_no_secret_of_a_URI_is_told(rig: Rig) -> None:
    for words in (["points", "--repo", "s3://key:hunter2@bucket/x"], ["points", "-r", "s3://b/x"]):
        code, out, err = told(*words, "--endpoint-url", "http://key:hunter2@127.0.0.1:9", "-v")
        assert code == 2 and "hunter2" not in out + err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-q", "-v"], "--quiet and --verbose exclude each other"),
        (["--json", "--output", "table"], "--json is --output jsonl"),
        (["--json", "--output", "json"], "--json is --output jsonl"),
        (["--output", "yaml"], "--output is one of table, json, jsonl"),
    ],
)
def test_what_contradicts_itself_is_one_sentence(words: list[str], said: str) -> None:
    for line in ([*words, "points", "-r", "/none"], ["points", "-r", "/none", *words]):
        code, out, err = told(*line)
        assert code == 2 and said in err and err.count("\n") == 1
        assert not out or ("json" in words and json.loads(out)) or "--json" in words


def test_what_follows_has_no_document() -> None:
    with pytest.raises(ConfigError, match="jsonl"):
        chosen_tone("json", json=False, quiet=False, verbose=False, endless=True)
    assert chosen_tone("jsonl", json=True, quiet=True, verbose=False, endless=True) == Tone("jsonl", quiet=True)


def test_of_two_vms_or_points_none_is_dropped() -> None:
    for words in (["--vm", "a", "--vm", "b"], ["--at=1", "--vm", "a", "--at", "2"]):
        code, out, err = told("points", "-r", "/none", *words)
        assert code == 2 and "is given twice, and takes one value" in err and not out
    assert "twice" not in told("points", "-r", "/other", "-r", "/none", "--vm", "a", "--vm", "a")[2]


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("points --json", "jsonl"),
        ("--output json points", "json"),
        ("points --output=jsonl", "jsonl"),
        ("points --output table", ""),
        ("points --output", ""),
        ("points", ""),
    ],
)
def test_which_JSON_a_wrong_line_wants(line: str, form: str) -> None:
    assert json_asked(line.split()) == form


@pytest.mark.parametrize("words", [["-q"], ["--repo", "/x"], ["-r/x"], ["--output"], ["-v", "--json"]])
def test_options_alone_are_no_command(words: list[str]) -> None:
    code, _, err = told(*words)
    assert code == 2 and err == "warmspare: no command is given; see `warmspare --help`\n"
    assert told(*words[:1], *words[1:2], "--version")[0] == (2 if words == ["--output"] else 0)
