"""Deep audits: nothing found where nothing is wrong, whatever the chain; killed anywhere they go on to the same result;
what was seen before is compared."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

import warmspare.audit.repository.deep.scan
from rig import KIB, MIB, Outcome, Rig, command, data_places, flip, flip_in_place, random_disk, scribble
from rigs.damage.repository import build
from rigs.kills.selfkill import killed_at
from rigs.stores.retaining import retain
from warmspare.audit.reports.report import AuditReport
from warmspare.audit.repository.deep.deep_progress import Keeper
from warmspare.audit.repository.deep.scan import ScannedDisk
from warmspare.audit.repository.losses import Losses
from warmspare.audit.repository.object_checks import Fetched, ObjectChecks
from warmspare.audit.repository.repository_audit import RepositoryAudit
from warmspare.audit.repository.seen import KnownRepository
from warmspare.errors import LeaseError, StoreError
from warmspare.observe.events import Events
from warmspare.state.local_files import locked
from warmspare.state.page_column import PageColumn
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.directory.file_upload import FileUpload
from warmspare.store.opening import open_store
from warmspare.sync import diskrun


class Killed(Exception):
    """Stands for the end of the process: nothing is saved after it."""


def deep(rig: Rig, *, thoroughly: bool = True, before: KnownRepository | None = None) -> AuditReport:
    """An audit in this process, its scratch space below the rig's home."""

    async def work() -> AuditReport:
        store = open_store(rig.repo)
        try:
            known = before or KnownRepository()
            return await RepositoryAudit(store, rig.home / "scratch", known, Events(), deep=thoroughly).run()
        finally:
            await store.close()

    return asyncio.run(work())


def essence(report: AuditReport) -> tuple[object, ...]:
    """What must not depend on how often it was interrupted."""
    names = ("block states verified", "block states not verifiable", "lost blocks of newest points")
    findings = sorted((f.kind, f.key, f.disk, f.offset or 0, f.length or 0, f.point) for f in report.findings)
    disks = [(d.id, d.judged, d.zero, d.sound, d.wrong) for d in report.disks]
    return findings, disks, [report.figures[name] for name in names], report.notes


def random_chain(rig: Rig, rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks that grow, come and go, runs that were interrupted and resumed, checkpoints, zeros."""
    monkeypatch.setattr(diskrun, "CHECKPOINT_POINTS", rng.choice([2, 3, 500]))
    disks = [rig.home / name for name in ("a.raw", "b.raw", "c.raw")]
    for disk in disks:
        random_disk(disk, rng.randrange(1, 6 * MIB), rng, pieces=8, most=200 * KIB)
    leave = FileUpload.__aexit__
    for number in range(rng.randrange(3, 7)):
        given: list[object] = [disk for disk in disks if number == 0 or rng.random() < 0.8] or [disks[0]]
        if rng.random() < 0.4:  # dies with some packs sent, and the disks change before it is tried again
            left = [rng.randrange(3)]

            async def dying(upload: FileUpload, kind: Any, error: Any, trace: Any, left: list[int] = left) -> None:
                if kind is None and not left[0]:
                    await leave(upload, StoreError, StoreError("gone"), None)
                    raise StoreError("the store is gone", retryable=True)
                left[0] -= 1
                await leave(upload, kind, error, trace)

            with monkeypatch.context() as patch:
                patch.setattr(FileUpload, "__aexit__", dying)
                died = command(
                    "sync", *given, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, "--level", 1, *rig.new()
                )
                assert died.code in (0, 4, 7)
            for disk in disks:
                scribble(disk, rng, pieces=2, most=30 * KIB)
        done = command("sync", *given, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, *rig.new())
        assert done.code in (0, 7), done
        for disk in disks:
            if rng.random() < 0.3:
                with disk.open("r+b") as file:
                    file.truncate(disk.stat().st_size + rng.randrange(1, 300 * KIB))
            scribble(disk, rng, pieces=rng.randrange(1, 8), most=rng.choice([4, 60, 300]) * KIB)


def let_go(rig: Rig, rng: random.Random, *, remove: bool) -> None:
    """Some points of a chain, in one go or in two."""
    there = sorted(int(path.stem) for path in (rig.root / "points").glob("*.json"))
    for _ in range(rng.randrange(1, 3)):
        keep = [number for number in there[:-1] if rng.random() < 0.5] + there[-1:]
        if keep != there:
            retain(DirectoryStore(rig.repo), rig.vm, keep, rig.home / "folding", remove=remove)
        there = keep


@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(n, marks=pytest.mark.slow) for n in range(10, 100))])
def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rig = Rig(tmp_path)
    random_chain(rig, random.Random(seed), monkeypatch)
    if seed % 2:
        let_go(rig, random.Random(seed), remove=seed % 4 == 1)
    for thoroughly in (False, True):
        report = deep(rig, thoroughly=thoroughly)
        wrong = [each for each in report.findings if each.severity != "note"]
        assert report.clean and not wrong, wrong
    assert report.coverage_percent == 100.0 and report.figures["block states not verifiable"] == 0
    states = report.figures["block states verified"]
    assert isinstance(states, int) and states > 0
    left = [path for path in (tmp_path / "scratch").iterdir() if path.name != "lock"]
    assert not left, "scratch space was not given back"


def harm(rig: Rig, rng: random.Random) -> None:
    """Some packs are cut, flipped or missing."""
    for path in rng.sample(rig.objects("packs"), 3):
        act = rng.randrange(3)
        if act == 0:
            path.unlink()
        elif act == 1:
            flip(path, rng.randrange(path.stat().st_size))
        else:
            os.truncate(path, rng.randrange(path.stat().st_size))


def interrupted(rig: Rig, monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> tuple[AuditReport, int]:
    """Killed at some call, once for sure and then again and again, until it comes to its end. How often, too."""
    kills = 0
    calls = [(ObjectChecks, "fetch"), (Keeper, "save"), (Losses, "make"), (PageColumn, "put"), (ScannedDisk, "left")]
    while True:
        owner, name = rng.choice(calls) if kills else calls[0]
        left = [rng.randrange(1, 25 if kills else 5)]
        call = getattr(owner, name)

        def dying(*args: Any, call: Any = call, left: list[int] = left, **kwargs: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                raise Killed
            return call(*args, **kwargs)

        with monkeypatch.context() as patch:
            if kills < 6:
                patch.setattr(owner, name, dying)
            patch.setattr(warmspare.audit.repository.deep.scan, "SAVE_S", 0.0)
            try:
                return deep(rig), kills
            except* Killed:
                kills += 1


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 30))])
def test_killed_anywhere_it_goes_on_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    rig = build(tmp_path, points=4, seed=seed)
    if seed % 2 == 0:
        retain(DirectoryStore(rig.repo), rig.vm, [2, 4], tmp_path / "folding")
    if seed:
        harm(rig, rng)
    expected = deep(rig)
    assert not expected.resumed and (seed == 0) == expected.clean
    for _ in range(2):
        report, kills = interrupted(rig, monkeypatch, rng)
        assert essence(report) == essence(expected) and kills, kills


@pytest.mark.parametrize("nth", [2, 6])
def test_killed_by_the_kernel_it_goes_on_to_the_same_result(tmp_path: Path, nth: int) -> None:
    rig = build(tmp_path, points=4, seed=0)
    expected = deep(rig)
    words = ["audit", "repository", "--repo", rig.repo, "--deep", "--scratch", rig.home / "scratch"]
    noted = "warmspare.audit.repository.deep.deep_progress:Keeper.save"
    killed_at(noted, nth, *words, constants={"warmspare.audit.repository.deep.scan:SAVE_S": 0.0})
    report = deep(rig)
    assert report.resumed and essence(report) == essence(expected)


def stopped(rig: Rig, monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    """Killed after so many notes of its progress."""
    save, left = Keeper.save, [saves]

    def dying(*args: Any, **kwargs: Any) -> None:
        save(*args, **kwargs)
        left[0] -= 1
        if not left[0]:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "save", dying)
        with pytest.RaisesGroup(Killed, allow_unwrapped=True, flatten_subgroups=True):
            deep(rig)


def test_what_was_verified_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = build(tmp_path, points=4)
    whole = deep(rig)
    stopped(rig, monkeypatch, 5)
    first = min(rig.objects("packs"), key=lambda path: path.stat().st_mtime_ns)
    fetched: list[str] = []
    fetch = ObjectChecks.fetch

    async def noting(self: ObjectChecks, stated: Any, *args: Any, **kwargs: Any) -> Fetched | None:
        fetched.append(stated.key)
        return await fetch(self, stated, *args, **kwargs)

    monkeypatch.setattr(ObjectChecks, "fetch", noting)
    report = deep(rig)
    assert report.resumed and essence(report) == essence(whole)
    assert str(first.relative_to(rig.repo)) not in fetched
    assert any(key.endswith(".pack") for key in fetched)


def test_scratch_space_that_changed_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = build(tmp_path, points=4)
    whole = deep(rig)
    stopped(rig, monkeypatch, 4)
    for path in (rig.home / "scratch").glob("*.image"):
        for at in data_places(path, random.Random(1), 40):
            flip_in_place(path, at)
    report = deep(rig)
    assert essence(report) == essence(whole) and not report.resumed, "it did not begin anew"


def test_progress_that_is_damaged_or_of_another_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = build(tmp_path, points=3)
    stopped(rig, monkeypatch, 3)
    path = next(path for path in (rig.home / "scratch").glob("*.json") if path.stat().st_size > 0)
    kept = path.read_bytes()
    path.write_bytes(kept[:-20])
    assert not deep(rig).resumed
    path.write_bytes(kept.replace(b'"target": 3', b'"target": 2'))
    assert not deep(rig).resumed
    path.write_bytes(kept)
    scribble(rig.home / "a.raw", random.Random(2))
    rig.sync(disks=[rig.home / "a.raw", rig.home / "b.raw"])
    report = deep(rig)
    assert report.clean and not report.resumed, "its files are gone"
    stopped(rig, monkeypatch, 3)
    scribble(rig.home / "a.raw", random.Random(3))
    rig.sync(disks=[rig.home / "a.raw", rig.home / "b.raw"])
    report = deep(rig)
    assert report.clean and report.resumed
    assert any("blocks were read up to restore point 4" in note for note in report.notes)


@pytest.mark.parametrize("remove", [True, False])
def test_progress_by_points_that_were_let_go_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remove: bool
) -> None:
    """It begins anew: what lies in scratch space is a disk as it was at a point that is no more."""
    rig = build(tmp_path, points=4)
    stopped(rig, monkeypatch, 7)
    retain(DirectoryStore(rig.repo), rig.vm, [3, 4], tmp_path / "folding", remove=remove)
    report = deep(rig)
    assert report.clean and not report.resumed and not report.findings
    stopped(rig, monkeypatch, 3)
    report = deep(rig)
    assert report.clean and report.resumed


def test_one_scratch_directory_serves_one_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = build(tmp_path, points=2)
    with locked(tmp_path / "scratch" / "lock", "a test") as mine:
        assert mine
        with pytest.raises(LeaseError, match="scratch"):
            deep(rig)


def audited(rig: Rig, *more: object, code: int = 0) -> Outcome:
    words = ["--repo", rig.repo, "--reports", rig.home / "reports", "--scratch", rig.home / "scratch"]
    done = command("audit", "repository", *words, *more)
    assert done.code == code, done
    return done


def kinds(done: Outcome) -> set[tuple[str, str]]:
    return {(each["kind"], each.get("key", "")) for each in done.all("finding")}


def notes(done: Outcome) -> str:
    report = json.loads(Path(done.last("audit.done")["report"]).read_text())
    return "\n".join(report["notes"])


def test_a_newest_point_that_is_gone_shows_only_to_who_saw_it(tmp_path: Path) -> None:
    rig = build(tmp_path, points=3)
    shutil.copytree(rig.repo, tmp_path / "whole")
    rig.apply(to=tmp_path / "replica")
    key = str(rig.point_path(3).relative_to(rig.repo))
    rig.point_path(3).unlink()
    unaware = audited(rig)
    assert "the newest restore point there ever was" in notes(unaware)
    state = next(rig.state.glob("vm/*/state.json"))
    for file in (state, tmp_path / "replica" / ".warmspare" / "replica.json"):
        shutil.rmtree(tmp_path / "reports", ignore_errors=True)
        assert ("point-rolled-back", key) in kinds(audited(rig, "--against", file, code=5)), file
    shutil.rmtree(tmp_path / "reports")
    shutil.copy(tmp_path / "whole" / key, rig.point_path(3))
    audited(rig)
    rig.point_path(3).unlink()
    assert ("point-rolled-back", key) in kinds(audited(rig, code=5)), "the kept report is not asked for"
    # The next is compared with what is there now, and says so no more; the first report still does.
    audited(rig)
    report = sorted((tmp_path / "reports").glob("*-repository-*.json"))[0]
    other = tmp_path / "other-reports"
    words = ["--repo", rig.repo, "--reports", other, "--scratch", rig.home / "scratch", "--against", report]
    assert ("point-rolled-back", key) in kinds(command("audit", "repository", *words))


def test_all_points_of_a_vm_gone(tmp_path: Path) -> None:
    rig = build(tmp_path, points=2)
    audited(rig)
    shutil.rmtree(rig.root)
    found = audited(rig, code=5)
    assert ("point-rolled-back", str(rig.point_path(2).relative_to(rig.repo))) in kinds(found)


def test_against_what_is_no_record(tmp_path: Path) -> None:
    rig = build(tmp_path, points=1)
    path = tmp_path / "nonsense"
    for data in (b"", b"{}", b"{nonsense", b"0123456789abcdef\n{}\n", b"\xff" * 99):
        path.write_bytes(data)
        assert (
            "can't be compared against"
            in command("audit", "repository", "--repo", rig.repo, "--reports", tmp_path / "r", "--against", path).stderr
        )
    assert command("audit", "repository", "--repo", rig.repo, "--against", tmp_path / "absent").code == 4


def test_it_writes_nothing_to_what_it_audits(tmp_path: Path) -> None:
    rig = build(tmp_path, points=2)
    harm(rig, random.Random(3))
    before = {path: path.stat().st_mtime_ns for path in Path(rig.repo).rglob("*")}
    audited(rig, "--deep", code=5)
    assert {path: path.stat().st_mtime_ns for path in Path(rig.repo).rglob("*")} == before


def test_one_vm_of_several_and_none(tmp_path: Path) -> None:
    rig = build(tmp_path, points=2)
    report = json.loads(Path(audited(rig, "--vm", "other", "--deep").last("audit.done")["report"]).read_text())
    assert report["vm"] == "other" and report["figures"]["restore points"] == 1 and len(report["disks"]) == 1
    missing = command("audit", "repository", "--repo", rig.repo, "--vm", "nobody", "--scratch", tmp_path / "scratch")
    assert missing.code == 2 and "no VM is called" in missing.stderr
    nothing = command("audit", "repository", "--repo", tmp_path / "nothing", "--scratch", tmp_path / "scratch")
    assert nothing.code == 2
