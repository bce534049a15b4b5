"""What a person is told of an audit, and what a script is: tables, events, exit codes, the chain of reports."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rig import MIB, Rig, command, random_disk
from rigs.damage.replica import audit
from warmspare.cli.main import run


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "local"))
    rig = Rig(tmp_path)
    random_disk(rig.disk, 8 * MIB, random.Random(3))
    rig.sync()
    rig.apply()
    return rig


def words(rig: Rig, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """Exit code and output without --json."""
    code = run(["audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", str(rig.replica), *more])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def test_a_person_reads_verdict_figures_and_findings(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = words(rig, capsys)
    assert code == 0 and "CLEAN" in out and "128 of 128 blocks" in out and "1-" in out
    before = rig.replica.read_bytes()
    with rig.replica.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"not what was protected")
    assert rig.replica.read_bytes() != before
    code, out = words(rig, capsys)
    assert code == 5 and "FINDINGS" in out and f"{5 * MIB:,}" in out and "X" in out and "--repair" in out
    code, out = words(rig, capsys, "--repair")
    assert code == 5 and "repaired" in out and rig.replica.read_bytes() == before
    assert words(rig, capsys)[0] == 0
    kept = rig.home / "local" / "warmspare" / "audits"
    assert len(list(kept.glob("*-replica-vm.json"))) == 4
    assert run(["audit", "verify-report"]) == 0
    assert "4 audit reports" in capsys.readouterr().out


def test_a_script_reads_events_and_codes(rig: Rig) -> None:
    first = audit(rig, code=0)
    assert [event["event"] for event in first.events if event["event"] != "progress"] == ["audit.start", "audit.done"]
    with rig.replica.open("r+b") as file:
        file.write(b"x")
    done = audit(rig, "--html", rig.home / "page.html", code=5)
    (found,) = done.all("finding")
    assert found["offset"] == 0 and found["length"] == 65536 and found["severity"] == "error" and found["remedy"]
    last = done.last("audit.done")
    assert (last["result"], last["findings"], last["repaired"]) == ("findings", 1, 0)
    assert Path(last["html"]).read_text().startswith("<!DOCTYPE html>")
    reports = rig.home / "reports"
    assert command("audit", "verify-report", "--reports", reports, "--head", last["sha256"]).code == 0
    path = Path(first.last("audit.done")["report"])
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"clean"', b'"dirty"'))
    broken = command("audit", "verify-report", "--reports", reports)
    assert broken.code == 5 and broken.all("report.wrong") and broken.last("reports.verified")["wrong"] == 1
    path.unlink()
    gone = command("audit", "verify-report", "--reports", reports)
    assert gone.code == 5 and gone.last("report.wrong")["message"] == "is missing"


def test_wrong_usage(rig: Rig) -> None:
    assert "--sample" in audit(rig, "--sample", "200", code=2).stderr
    assert audit(rig, "--at", "9", code=2).stderr
    assert "no directory" in command("audit", "verify-report", "--reports", rig.home / "nowhere").stderr
    half = audit(rig, "--sample", "50", code=0).last("audit.done")
    assert half["coverage_percent"] == 50
