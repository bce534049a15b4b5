"""`warmspare copy`: exact, only what is missing, whatever dies on the way, and a sync goes on at the destination."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import warmspare.sync.diskrun
import warmspare.sync.stages.pack_writer
from rig import (
    KIB,
    MIB,
    Outcome,
    Rig,
    command,
    files_below,
    fingerprint,
    flip,
    made,
    overwrite,
    python,
    random_disk,
    same,
    scribble,
)
from rig import write_extents as extents_of
from rigs.kills.campaign import choose, victim
from servers import S3Place
from warmspare.format import restore_point
from warmspare.observe.events import Events
from warmspare.repository.chain import Repository
from warmspare.repository.making import make_repository
from warmspare.store import layout
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.lease import Lease
from warmspare.store.opening import open_store


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Several packs and a checkpoint now and then of a small disk; a state directory of this test."""
    monkeypatch.setattr(warmspare.sync.stages.pack_writer, "PACK_BYTES", MIB)
    monkeypatch.setattr(warmspare.sync.diskrun, "CHECKPOINT_POINTS", 2)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))


def make(home: Path, vm: str, points: int, seed: int, *, repo: str = "", size: int = 5 * MIB) -> Rig:
    """A VM of its own with so many restore points."""
    home.mkdir(parents=True, exist_ok=True)
    rig, rng = Rig(home, vm=vm, repo=repo), random.Random(seed)
    random_disk(rig.disk, size, rng)
    for number in range(points):
        if number:
            scribble(rig.disk, rng)
        rig.sync("--level", "1")
    return rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Three restore points of one VM."""
    return make(tmp_path, "vm", 3, 1)


def copy(source: object, target: object, *more: object, code: int = 0) -> Outcome:
    made(target, *more)
    outcome = command("copy", "--from", source, "--to", target, *more)
    assert outcome.code == code, outcome
    return outcome


def at(rig: Rig, repo: object) -> Rig:
    """The same VM, looked at in another repository."""
    return Rig(rig.home, vm=rig.vm, repo=str(repo), more=rig.more)


def objects(root: Path) -> dict[str, str]:
    return {key: digest for key, digest in fingerprint(root).items() if key != "repository.json"}


def nothing_staged(root: Path) -> bool:
    left = [path for path in (root / ".tmp~").rglob("*") if path.is_file()]
    return not [path for path in left if {"packs", "manifests", "tables"} & set(path.parts)]


# what it copies


def test_several_vms_and_points(tmp_path: Path) -> None:
    names = ["web1", "Frontend / ä", "n" * 200]
    rigs = [make(tmp_path / str(i), name, 4 - i, i, repo=str(tmp_path / "repo")) for i, name in enumerate(names)]
    target = tmp_path / "copy"
    done = copy(tmp_path / "repo", target)
    assert objects(target) == objects(tmp_path / "repo")
    assert any(key.endswith(".table") for key in objects(target))
    assert (target / "repository.json").read_bytes() != (tmp_path / "repo/repository.json").read_bytes()
    for one in rigs:
        replica = one.home / "from-copy.raw"
        at(one, target).apply(to=replica)
        assert same(one.disk, replica)
    last = done.last("copy.done")
    assert (last["vms"], last["points"], last["objects_there"]) == (3, 9, 0)
    assert last["objects"] == len(objects(target)) - 9
    start = done.last("copy.start")
    assert sorted(start["vms"]) == sorted(names) and start["points"] == 9
    assert [e["point"].split("-")[0] for e in done.all("copy.point") if e["vm"] == "web1"] == ["1", "2", "3", "4"]
    sizes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file() and path.suffix != ".json")
    assert last["bytes_read"] == sizes and sizes < last["bytes_sent"] < sizes + 100 * KIB


def test_only_what_is_missing(rig: Rig, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    copy(rig.repo, target)
    before = fingerprint(target)
    again = copy(rig.repo, target).last("copy.done")
    assert (again["points"], again["objects"], again["bytes_sent"], again["bytes_read"]) == (0, 0, 0, 0)
    assert fingerprint(target) == before
    scribble(rig.disk, random.Random(5), pieces=2, most=4 * KIB)
    rig.sync()
    more = copy(rig.repo, target)
    assert more.last("copy.done")["points"] == 1 and more.last("copy.done")["bytes_sent"] < 64 * KIB
    assert objects(target) == objects(Path(rig.repo))
    at(rig, target).apply()
    assert same(rig.disk, rig.replica)


def test_one_vm_by_its_id_or_name(tmp_path: Path) -> None:
    make(tmp_path / "a", "a", 1, 1, repo=str(tmp_path / "repo"))
    rig = make(tmp_path / "b", "b", 2, 2, repo=str(tmp_path / "repo"))
    copy(tmp_path / "repo", tmp_path / "copy", "--vm", "b")
    assert {key.split("/")[1] for key in objects(tmp_path / "copy")} == {"b"}
    at(rig, tmp_path / "copy").apply()
    assert same(rig.disk, rig.replica)
    refused = copy(tmp_path / "repo", tmp_path / "copy", "--vm", "c", code=2)
    assert "'c' has no restore point" in refused.stderr


def test_a_source_that_holds_nothing(tmp_path: Path) -> None:
    asyncio.run(make_empty(tmp_path / "repo"))
    assert copy(tmp_path / "repo", tmp_path / "copy").last("copy.done")["points"] == 0


async def make_empty(path: Path) -> None:
    store = DirectoryStore(str(path))
    await make_repository(store, Events())
    await store.close()


def test_a_destination_that_is_ahead_is_left_alone(rig: Rig, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    copy(rig.repo, target)
    scribble(rig.disk, random.Random(6))
    at(rig, target).sync()
    before = fingerprint(target)
    assert copy(rig.repo, target).last("copy.done")["points"] == 0
    assert fingerprint(target) == before
    assert copy(target, rig.repo).last("copy.done")["points"] == 1  # and back
    assert objects(target) == objects(Path(rig.repo))


def test_in_words(rig: Rig, tmp_path: Path) -> None:
    made(tmp_path / "copy")
    arguments = ["copy", "--from", rig.repo, "--to", str(tmp_path / "copy")]
    shown = [
        subprocess.run([python(), "-m", "warmspare", *arguments], capture_output=True, text=True) for _ in range(2)
    ]
    assert [one.returncode for one in shown] == [0, 0] and shown[0].stderr == ""
    lines = shown[0].stdout.splitlines()
    assert lines[0].startswith("copying 3 restore points of vm from ") and lines[-1].startswith("3 restore points co")
    assert sum("is copied" in line for line in lines) == 3
    assert "has everything that" in shown[1].stdout


# killed and resumed


def test_killed_anywhere_and_resumed(rig: Rig, tmp_path: Path) -> None:
    was = {}
    for number in (1, 2, 3):
        was[number] = tmp_path / f"was-{number}"
        rig.apply("--at", number, to=was[number])

    def run(target: Path) -> list[object]:
        made(target)
        return ["copy", "--from", rig.repo, "--to", target, "--json"]

    listed = tmp_path / "moments"
    assert victim("list", listed, *run(tmp_path / "listing")).returncode == 0
    moments = [m for m in listed.read_text().splitlines() if not m.startswith(("before store.get", "after store.get"))]
    for stage in ("Carrier._send", "Carrier.bring", "Copier._point", "Copier._below", "Repository.publish"):
        assert f"after {stage}" in moments, stage
    killed = 0
    for round_, (name, ordinal) in enumerate(choose(moments, random.Random(7), 10)):
        target = tmp_path / "round"
        done = victim("kill", name, ordinal, *run(target))
        what = f"{name} #{ordinal}: {done.returncode} {done.stderr[-500:]}"
        assert done.returncode in (-9, 0), what
        killed += done.returncode == -9
        visible = sorted((target / "vms/vm/points").glob("*.json"))
        assert [p.name for p in visible] == [f"{n:010d}.json" for n in range(1, len(visible) + 1)], what
        if visible:
            replica = tmp_path / f"replica-{round_}"
            at(rig, target).apply(to=replica)
            assert same(replica, was[len(visible)]), what
        resumed = copy(rig.repo, target)
        assert resumed.last("copy.done")["points"] == 3 - len(visible), what
        assert not resumed.all("finding"), what
        assert objects(target) == objects(Path(rig.repo)) and nothing_staged(target), what
        shutil.rmtree(target)
    assert killed >= 8


def test_what_is_there_is_not_sent_again(rig: Rig, tmp_path: Path) -> None:
    """The publication of the last point did not come: all below it stands, is read again and used."""
    target = tmp_path / "copy"
    copy(rig.repo, target)
    at(rig, target).point_path(3).unlink()
    done = copy(rig.repo, target).last("copy.done")
    assert done["points"] == 1 and done["objects"] == 0 and done["objects_there"] >= 2
    assert done["bytes_sent"] < 20 * KIB
    assert objects(target) == objects(Path(rig.repo))


@pytest.mark.parametrize("harm", ["flip", "cut", "longer"])
def test_what_is_damaged_there_is_sent_again(rig: Rig, tmp_path: Path, harm: str) -> None:
    target = tmp_path / "copy"
    copy(rig.repo, target)
    there = at(rig, target)
    there.point_path(3).unlink()
    run = rig.point(3).run
    for kind in ("packs", "manifests"):
        path = next(path for path in there.objects(kind) if path.parent.name == run)
        if harm == "flip":
            flip(path, path.stat().st_size // 2)
        else:
            overwrite(path, path.read_bytes()[:-1] if harm == "cut" else path.read_bytes() + b"x")
    done = copy(rig.repo, target)
    assert [e["kind"] for e in done.all("finding")] == ["damaged-object"] * 2
    assert done.last("copy.done")["objects"] == 2
    assert objects(target) == objects(Path(rig.repo))


def test_interrupted(rig: Rig, tmp_path: Path) -> None:
    made(tmp_path / "copy")
    child = subprocess.Popen(
        [python(), "-m", "warmspare", "copy", "--from", rig.repo, "--to", tmp_path / "copy", "--limit", "1mbit"],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    staged = tmp_path / "copy/.tmp~/uploads/vms/vm/packs"
    while not any(files_below(staged)) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.terminate()
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130 and "run the same command again" in stderr
    copy(rig.repo, tmp_path / "copy")
    assert objects(tmp_path / "copy") == objects(Path(rig.repo)) and nothing_staged(tmp_path / "copy")


# a source that is damaged


def harms() -> dict[str, Callable[[Path], None]]:
    return {
        "flip": lambda path: flip(path, path.stat().st_size // 2) and None,
        "cut": lambda path: overwrite(path, path.read_bytes()[:-1]),
        "longer": lambda path: overwrite(path, path.read_bytes() + b"\0"),
        "missing": lambda path: path.unlink(),
    }


@pytest.mark.parametrize("harm", list(harms()))
@pytest.mark.parametrize("kind", ["packs", "manifests", "tables"])
def test_damage_in_the_source_is_not_published(rig: Rig, tmp_path: Path, kind: str, harm: str) -> None:
    """Of the second point: the first is published, and the rest once the object is back."""
    target, run = tmp_path / "copy", rig.point(2).run
    path = next(path for path in rig.objects(kind) if path.parent.name == run)
    before = path.read_bytes()
    harms()[harm](path)
    refused = copy(rig.repo, target, code=5)
    assert path.name in refused.stderr
    assert sorted(p.name for p in (target / "vms/vm/points").iterdir()) == ["0000000001.json"]
    assert not (target / path.relative_to(rig.repo)).exists() and nothing_staged(target)
    path.unlink(missing_ok=True)
    path.write_bytes(before)
    assert copy(rig.repo, target).last("copy.done")["points"] == 2
    assert objects(target) == objects(Path(rig.repo))


@pytest.mark.parametrize("harm", list(harms()))
@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_record_stops_it_before_it_begins(rig: Rig, tmp_path: Path, number: int, harm: str) -> None:
    harms()[harm](rig.point_path(number))
    copy(rig.repo, tmp_path / "copy", code=5)
    assert objects(tmp_path / "copy") == {}


def test_a_newest_record_that_adds_up_still_is_not_seen_through(rig: Rig, tmp_path: Path) -> None:
    """Nobody who did not see it before can tell; whoever did says so."""
    rig.apply()
    newest = max(int(path.stem) for path in (rig.root / "points").iterdir())
    record = msgspec.structs.replace(rig.point(newest), created="2001-01-01T00:00:00Z")
    overwrite(rig.point_path(newest), restore_point.encode(record))
    copy(rig.repo, tmp_path / "copy")
    assert Rig(rig.home, vm=rig.vm, repo=str(tmp_path / "copy")).point(newest).created == "2001-01-01T00:00:00Z"
    rig.apply(code=5)


def test_a_record_that_changes_meanwhile(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = Repository.parse
    seen: list[int] = []

    def other(self: Repository, vm: str, sequence: int, data: bytes) -> object:
        seen.append(sequence)
        return parse(self, vm, sequence, data.replace(b"created", b"created", 1) + b" " * (seen.count(2) > 1))

    monkeypatch.setattr(Repository, "parse", other)
    assert "while it was copied" in copy(rig.repo, tmp_path / "copy", code=5).stderr
    assert [p.name for p in (tmp_path / "copy/vms/vm/points").iterdir()] == ["0000000001.json"]


@pytest.mark.parametrize("key", ["elsewhere", "vms/other/manifests/x/000.manifest", "vms/vm/points/x.json"])
def test_a_record_can_not_make_it_write_elsewhere(tmp_path: Path, key: str) -> None:
    rig = make(tmp_path, "vm", 1, 3)
    record = rig.point(1)
    disk = record.disks[0]
    (Path(rig.repo) / key).parent.mkdir(parents=True, exist_ok=True)
    (Path(rig.repo) / key).write_bytes((Path(rig.repo) / disk.manifest.key).read_bytes())
    named = msgspec.structs.replace(disk, manifest=msgspec.structs.replace(disk.manifest, key=key))
    overwrite(rig.point_path(1), restore_point.encode(msgspec.structs.replace(record, disks=[named])))
    refused = copy(rig.repo, tmp_path / "copy", "--vm", "vm", code=5)
    assert f"has the key {key}, not one below vms/vm/manifests/" in refused.stderr
    assert objects(tmp_path / "copy") == {}


# a destination that is another's


def test_another_history_is_refused(rig: Rig, tmp_path: Path) -> None:
    other = make(tmp_path / "other", "vm", 2, 9, repo=str(tmp_path / "copy"))
    more = make(tmp_path / "more", "bystander", 1, 10, repo=rig.repo)
    before = fingerprint(tmp_path / "copy")
    refused = copy(rig.repo, tmp_path / "copy", code=5)
    assert "another history" in refused.stderr and fingerprint(tmp_path / "copy") == before
    assert not (tmp_path / "copy/vms/bystander").exists()
    copy(rig.repo, tmp_path / "copy", "--vm", more.vm)  # that one is well
    at(other, tmp_path / "copy").apply()
    assert same(other.disk, other.replica)


def test_a_fork_after_a_common_beginning_is_refused(rig: Rig, tmp_path: Path) -> None:
    copy(rig.repo, tmp_path / "copy")
    rng = random.Random(11)
    scribble(rig.disk, rng)
    at(rig, tmp_path / "copy").sync()
    scribble(rig.disk, rng)
    rig.sync()
    rig.sync()
    before = fingerprint(tmp_path / "copy")
    assert "4-" in copy(rig.repo, tmp_path / "copy", code=5).stderr
    assert fingerprint(tmp_path / "copy") == before


async def test_a_sync_at_the_destination_keeps_it_out(rig: Rig, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    store = DirectoryStore(str(target))
    await make_repository(store, Events())
    async with Lease.hold(store, layout.lease_key("vm")):
        child = await asyncio.create_subprocess_exec(
            python(), "-m", "warmspare", "copy", "--from", rig.repo, "--to", str(target), stderr=subprocess.PIPE
        )
        _, stderr = await child.communicate()
    await store.close()
    assert child.returncode == 6 and b"holds the lease" in stderr
    assert not (target / "vms/vm/points").exists()


def test_a_point_that_another_publishes_meanwhile(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Repository.publish

    async def late(self: Repository, vm: str, sequence: int, data: bytes) -> bool:
        if sequence == 2:
            await publish(self, vm, sequence, data + b" ")
        return await publish(self, vm, sequence, data)

    monkeypatch.setattr(Repository, "publish", late)
    assert "meanwhile" in copy(rig.repo, tmp_path / "copy", code=5).stderr
    assert len(list((tmp_path / "copy/vms/vm/points").iterdir())) == 2


def test_what_is_no_copy(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(rig.repo)
    before = fingerprint(Path(rig.repo))
    for other in (rig.repo, rig.repo + "/", f"file://{rig.repo}", tmp_path / "link", f"{tmp_path}/x/../repo"):
        assert "the same repository" in copy(rig.repo, other, code=2).stderr
    raw = ("copy", "--from", tmp_path / "none", "--to", tmp_path / "copy")
    assert "no warmspare repository" in command(*raw).stderr
    assert not (tmp_path / "copy").exists() and fingerprint(Path(rig.repo)) == before
    assert "same" in copy("s3://bucket/a", "s3://bucket/a/", code=2).stderr
    copy(rig.repo, tmp_path / "no" / "parent", code=2)
    assert command("init", tmp_path / "no" / "parent").code == 4
    assert "rate" in copy(rig.repo, tmp_path / "copy", "--limit", "x", code=2).stderr
    assert "credentials" in copy(rig.repo, tmp_path / "copy", "--from-endpoint-url", "http://a:b@c", code=2).stderr


def test_a_limit(rig: Rig, tmp_path: Path) -> None:
    began = time.monotonic()
    sent = copy(rig.repo, tmp_path / "copy", "--limit", "1MB").last("copy.done")["bytes_sent"]
    assert sent / 1e6 - 0.3 < time.monotonic() - began < sent / 1e6 + 5


# a sync goes on


def changed_page(rig: Rig, seed: int) -> Path:
    """One page in each of some blocks changes; a tracker that knows blocks only reports these."""
    rng = random.Random(seed)
    written = [(block * 64 * KIB + 4096 * rng.randrange(16), 4096) for block in range(seed % 4, 80, 4)]
    with rig.disk.open("r+b") as file:
        for offset, length in written:
            file.seek(offset)
            file.write(rng.randbytes(length))
    return extents_of(rig.home / "extents", written, 64 * KIB, rig.disk.stat().st_size)


def dense(rig: Rig, seed: int = 20) -> None:
    rig.disk.write_bytes(random.Random(seed).randbytes(5 * MIB))
    rig.sync("--level", "1")


def test_a_sync_goes_on_at_the_destination_and_sends_only_changes(rig: Rig, tmp_path: Path) -> None:
    dense(rig)
    target = at(rig, tmp_path / "copy")
    copy(rig.repo, target.repo)
    extents = changed_page(rig, 1)
    done = target.sync("--extents", extents)
    last = done.last("sync.done")
    assert last["bytes_changed"] == 20 * 4096 and last["bytes_sent"] < 20 * 4096 + 12 * KIB
    [adopted] = done.all("state.adopted")
    assert adopted["point"] == last["parent"] and adopted["repository"] == rig.repo
    assert not done.all("state.rebuild") and not done.all("state.damaged")
    target.apply()
    assert same(rig.disk, rig.replica)
    extents = changed_page(rig, 2)  # both go on, each with a state of its own
    for one in (target, rig):
        more = one.sync(*([] if one is rig else ["--extents", extents]))
        assert not more.all("state.adopted") and not more.all("state.rebuild")
        one.apply(to=tmp_path / f"replica-{one is rig}")
        assert same(rig.disk, tmp_path / f"replica-{one is rig}")
    copy(rig.repo, target.repo, code=5)  # now they have different histories


def test_it_goes_on_from_a_copy_that_is_behind_or_ahead(rig: Rig, tmp_path: Path) -> None:
    """The state may know less than the copy has, since another sender went on there; or more: then it is no help."""
    dense(rig)
    copy(rig.repo, tmp_path / "ahead")
    copy(rig.repo, tmp_path / "behind")
    ahead, behind = at(rig, tmp_path / "ahead"), at(rig, tmp_path / "behind")
    changed_page(rig, 3)
    ahead.sync(state=tmp_path / "another-host")
    done = ahead.sync("--extents", changed_page(rig, 4))
    assert done.all("state.adopted") and done.last("sync.done")["bytes_sent"] < 20 * 4096 + 12 * KIB
    ahead.apply(to=tmp_path / "a.raw")
    assert same(rig.disk, tmp_path / "a.raw")
    shutil.rmtree(rig.state / "vm" / repository_id(tmp_path / "ahead"))
    rig.sync()
    done = behind.sync()
    assert not done.all("state.adopted")
    behind.apply(to=tmp_path / "b.raw")
    assert same(rig.disk, tmp_path / "b.raw")


def repository_id(path: Path) -> str:
    return str(msgspec.json.decode((path / "repository.json").read_bytes())["id"])


def test_a_state_that_is_in_use_is_not_taken(rig: Rig, tmp_path: Path) -> None:
    from warmspare.state.local_files import locked

    copy(rig.repo, tmp_path / "copy")
    target = at(rig, tmp_path / "copy")
    scribble(rig.disk, random.Random(5))
    with locked(rig.state / "vm" / repository_id(Path(rig.repo)) / "lock", "x") as free:
        assert free
        done = target.sync()
    assert not done.all("state.adopted") and done.all("state.rebuild")
    target.apply()
    assert same(rig.disk, rig.replica)


def test_an_adoption_that_died_is_made_again(rig: Rig, tmp_path: Path) -> None:
    dense(rig)
    copy(rig.repo, tmp_path / "copy")
    target = at(rig, tmp_path / "copy")
    home = rig.state / "vm" / repository_id(tmp_path / "copy")
    for name in ("disks.new", "disks"):
        (home / name / "disk.raw").mkdir(parents=True)
        (home / name / "disk.raw" / "table").write_bytes(b"torn")
    done = target.sync("--extents", changed_page(rig, 6))
    assert done.all("state.adopted") and done.last("sync.done")["bytes_sent"] < 20 * 4096 + 12 * KIB
    assert not (home / "disks.new").exists()
    target.apply()
    assert same(rig.disk, rig.replica)


def test_an_unrelated_repository_is_no_copy(rig: Rig, tmp_path: Path) -> None:
    other = at(rig, tmp_path / "other")
    assert not other.sync().all("state.adopted")
    other.apply()
    assert same(rig.disk, rig.replica)


# S3


def test_to_s3_and_back(rig: Rig, tmp_path: Path, seaweed_place: S3Place) -> None:
    dense(rig)
    target = at(rig, seaweed_place.uri)
    done = copy(rig.repo, target.repo).last("copy.done")
    assert done["points"] == 4 and done["objects_there"] == 0
    assert copy(rig.repo, target.repo).last("copy.done")["bytes_sent"] == 0
    target.apply()
    assert same(rig.disk, rig.replica)
    last = target.sync("--extents", changed_page(rig, 7)).last("sync.done")
    assert last["bytes_sent"] < 20 * 4096 + 12 * KIB
    assert copy(target.repo, f"{target.repo}-2", "--vm", "vm").last("copy.done")["points"] == 5
    copy(f"{target.repo}-2", tmp_path / "back")
    back = at(rig, tmp_path / "back")
    back.apply(to=tmp_path / "back.raw")
    assert same(rig.disk, tmp_path / "back.raw")
    assert {k: v for k, v in objects(tmp_path / "back").items() if k in objects(Path(rig.repo))} == objects(
        Path(rig.repo)
    )


def test_s3_states_what_it_has(rig: Rig, seaweed_place: S3Place) -> None:
    """Checked by length and CRC32C, without reading it; what is another length or content is sent again."""
    target = at(rig, seaweed_place.uri)
    copy(rig.repo, target.repo)
    run = rig.point(3).run
    [pack, *_] = [path for path in rig.objects("packs") if path.parent.name == run]
    key = str(pack.relative_to(rig.repo))

    async def harm() -> None:
        store = open_store(target.repo)
        await store.delete([layout.point_key("vm", 3)])
        await store.put(key, os.urandom(pack.stat().st_size))
        await store.close()

    asyncio.run(harm())
    done = copy(rig.repo, target.repo)
    assert done.last("copy.done")["objects"] == 1 and done.last("copy.done")["objects_there"] >= 1
    [finding] = done.all("finding")
    assert finding["key"] == key
    target.apply()
    assert same(rig.disk, rig.replica)


def test_killed_towards_s3(rig: Rig, tmp_path: Path, seaweed_place: S3Place) -> None:
    target = at(rig, seaweed_place.uri)
    made(target.repo)
    arguments = [python(), "-m", "warmspare", "copy", "--from", rig.repo, "--to", target.repo, "--limit", "8mbit"]
    rng, ends = random.Random(8), []
    for _ in range(3):
        child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
        try:
            child.wait(rng.uniform(0.8, 2.5))
        except subprocess.TimeoutExpired:
            child.kill()
        ends.append(child.wait())
    assert -signal.SIGKILL in ends and set(ends) <= {-signal.SIGKILL, 0}, ends
    copy(rig.repo, target.repo)
    target.apply()
    assert same(rig.disk, rig.replica)

    async def left() -> list[object]:
        store = open_store(target.repo)
        found = [stale for stale in await store.stale_uploads("vms/") if stale.key != layout.lease_key("vm")]
        await store.close()
        return list(found)

    assert asyncio.run(left()) == []


def test_each_end_has_its_own_account(tmp_path: Path, seaweed_place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read with the one profile, written with the other: neither may do what the other is for."""
    server = seaweed_place.server
    source = make(tmp_path, "vm", 1, 1, repo=f"{seaweed_place.uri}/a")
    made(f"{seaweed_place.uri}/b")
    accounts = tmp_path / "credentials"
    accounts.write_text(
        f"[reads]\naws_access_key_id = {server.reader_access_key}\naws_secret_access_key = {server.reader_secret_key}\n"
        f"[writes]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(accounts))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    places = ["--region", server.region, "--from-region", server.region]
    target = f"{seaweed_place.uri}/b"
    refused = copy(source.repo, target, "--from-profile", "writes", "--profile", "reads", *places, code=4)
    assert "access denied" in refused.stderr and "/b/" in refused.stderr
    missing = copy(source.repo, target, "--from-profile", "reads", "--profile", "nonesuch", *places, code=4)
    assert "profile does not exist" in missing.stderr
    wrong = copy(source.repo, target, "--from-profile", "reads", "--profile", "writes", "--from-region", "a b", code=2)
    assert "region" in wrong.stderr
    done = copy(source.repo, target, "--from-profile", "reads", "--profile", "writes", *places)
    assert done.last("copy.done")["points"] == 1
    monkeypatch.setenv("AWS_PROFILE", "reads")
    monkeypatch.setenv("AWS_REGION", server.region)
    at(source, target).apply()
    assert same(source.disk, source.replica)
