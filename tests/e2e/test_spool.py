"""Packs that wait in a spool, and points that were read by a run and are published by the next: the machine is let go
when it is read, nothing is read twice without need, and what is published is exact."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import warmspare.sync.publishing.spool
import warmspare.sync.sender
import warmspare.sync.stages.pack_writer
from rig import KIB, MIB, Event, Rig, files_below, flip, made, python, same, scribble
from rigs.sites.fakevm import FakeVm
from siterig import SiteRig, site_rig
from warmspare.format import restore_point
from warmspare.model.keyparts import encode_name
from warmspare.observe.catalogue import parsed
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import Housekeeping
from warmspare.store import layout
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.sync.publishing.spool import Spool, SpoolPlace

SLOW = ("--limit", "8mbit")  # 1 MB/s


@pytest.fixture(autouse=True)
def _own_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    rig.more = []
    rig.disk.write_bytes(random.Random(1).randbytes(6 * MIB))
    return rig


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def held(spool: Path) -> list[Path]:
    """Packs that wait in it."""
    return sorted(path for path in files_below(spool) if "packs" in path.parts)


def exact(rig: Rig, disk: Path | None = None, *at: object) -> None:
    """The replica, from nothing, is the disk."""
    fresh = rig.home / "fresh.raw"
    rig.apply(*at, to=fresh)
    assert same(disk or rig.disk, fresh)
    fresh.unlink()
    shutil.rmtree(f"{fresh}.warmspare")


@contextlib.contextmanager
def started(rig: Rig, *more: object) -> Iterator[subprocess.Popen[bytes]]:
    """A sync of its own process; killed if it still runs."""
    words = ["sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, *rig.new(), *more, "--json"]
    child = subprocess.Popen([python(), "-m", "warmspare", *map(str, words)], stdout=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def wait_for(condition: Callable[[], object], limit_s: float = 30.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def sealed(rig: Rig) -> list[Path]:
    return named(rig.state, "sealed.json")


def named(folder: Path, name: str) -> list[Path]:
    return [path for path in files_below(folder) if path.name == name]


def killed_once_read(rig: Rig, *more: object) -> None:
    """A sync that dies while what it read is being sent."""
    with started(rig, *SLOW, *more) as child:
        wait_for(lambda: sealed(rig))
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not rig.objects("points")


# what goes through a spool


def test_a_sync_through_a_spool_is_like_any_other(rig: Rig, spool: Path) -> None:
    rig.sync("--spool", spool)
    exact(rig)
    scribble(rig.disk, random.Random(2))
    rig.sync("--spool", spool)
    exact(rig)
    assert not held(spool)
    record = rig.point(2)
    sizes = {str(path.relative_to(rig.repo)): path.stat().st_size for path in rig.objects("packs")}
    run = f"/{record.run}/"
    assert record.bytes_sent == sum(n for key, n in sizes.items() if run in key) + record.disks[0].manifest.bytes


def test_packs_are_as_large_as_the_link_is_fast(rig: Rig, spool: Path) -> None:
    """What is lost with a sender that dies is what it was sending: a few seconds of the link."""
    rig.sync("--spool", spool)  # no rate is known yet: 1 MiB
    sizes = [path.stat().st_size for path in rig.objects("packs")]
    assert len(sizes) == 6 and max(sizes) < 2.1 * MIB
    store = DirectoryStore(rig.repo)
    slow = Spool(store, spool, SpoolPlace(spool), Housekeeping(Events()), rate=400_000.0)
    assert slow.pack_bytes() == 1_000_000  # two at a time, 2.5 s each
    fast = Spool(store, spool, SpoolPlace(spool), Housekeeping(Events()), rate=1e9)
    assert fast.pack_bytes() == 64 * MIB


def sent_meanwhile(rig: SiteRig, vm: FakeVm, act: Callable[[], None]) -> int:
    """Bytes of packs in the repository when a snapshot was last seen while something was done, looking twenty times a
    second; not how long that took, which is the machine's."""
    sent = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal sent
        while not over.wait(0.05):
            before = weight(rig.repo / "vms")
            sent = max(sent, before) if rig.clean(vm) else sent

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        act()
    finally:
        over.set()
        thread.join()
    return sent


def test_the_snapshot_goes_when_reading_is_done(tmp_path: Path, spool: Path) -> None:
    """However thin the link: most of it is sent without one."""
    with site_rig(tmp_path) as rig:
        vm = rig.add("db", [24 * MIB])
        vm.write(0, 0, random.Random(3).randbytes(8 * MIB))
        rig.more = f'spool = "{spool}"\n'
        rig.write_config()
        began = time.monotonic()
        sent = sent_meanwhile(rig, vm, lambda: rig.sync(more=SLOW))
        assert time.monotonic() - began > 4  # the link was thin
        assert sent < 4 * MIB  # of 8
        rig.check(vm)


# runs that end early


def test_a_run_that_read_everything_is_finished_by_the_next(rig: Rig, spool: Path) -> None:
    killed_once_read(rig, "--spool", spool)
    then = rig.home / "then.raw"
    shutil.copy(rig.disk, then)
    scribble(rig.disk, random.Random(4))
    done = rig.sync("--spool", spool)
    told = [event["event"] for event in done.events]
    assert told.index("sync.completing") < told.index("sync.recovered") < told.index("sync.start")
    assert done.last("sync.recovered")["published"] is True
    assert done.last("sync.done")["point"].startswith("2-") or rig.point(2).sequence == 2
    exact(rig, then, "--at", 1)
    exact(rig)
    assert not held(spool) and not sealed(rig)


def test_what_was_sent_is_not_sent_again(rig: Rig, spool: Path) -> None:
    with started(rig, *SLOW, "--spool", spool) as child:
        wait_for(lambda: sealed(rig) and len(rig.objects("packs")) >= 3)
        child.send_signal(signal.SIGKILL)
        child.wait()
    there = {path.name: path.stat() for path in rig.objects("packs")}
    left = sum(path.stat().st_size for path in held(spool))
    assert left < 4.5 * MIB  # three have arrived, and the last of them may still be in both places
    done = rig.sync("--spool", spool)
    assert done.last("sync.done")["bytes_sent"] < left + 64 * KIB
    kept = {path.name: path.stat() for path in rig.objects("packs") if path.name in there}
    assert all(kept[name].st_mtime_ns == there[name].st_mtime_ns for name in there)
    exact(rig)


def test_it_is_finished_from_where_its_spool_was(rig: Rig, spool: Path) -> None:
    """Another spool, or none, for the next run does not lose what waits in this one."""
    killed_once_read(rig, "--spool", spool)
    assert held(spool)
    done = rig.sync()
    assert done.all("sync.completing") and len(rig.objects("points")) == 2
    exact(rig, None, "--at", 1)
    assert not held(spool)


def test_without_a_spool_too(rig: Rig) -> None:
    """All was sent but for the record: the next run needs no look at the disk for that."""
    made(rig.repo)
    rig.root.mkdir(parents=True)
    (rig.root / "points").write_text("a file in the place of the records")
    rig.sync(code=4)
    (rig.root / "points").unlink()
    then = rig.home / "then.raw"
    shutil.move(rig.disk, then)
    rig.disk.write_bytes(bytes(6 * MIB))
    packs = set(rig.objects("packs"))
    done = rig.sync()
    assert done.all("sync.completing") and packs <= set(rig.objects("packs"))
    exact(rig, then, "--at", 1)
    exact(rig)


def test_what_waits_is_void_when_another_has_published(rig: Rig, spool: Path, tmp_path: Path) -> None:
    """Its parent is not the head any more: its packs are let go, and the disk is read."""
    rig.sync()
    scribble(rig.disk, random.Random(5), pieces=40, most=200 * KIB)
    with started(rig, *SLOW, "--spool", spool) as child:
        wait_for(lambda: sealed(rig))
        child.send_signal(signal.SIGKILL)
        child.wait()
    state = tmp_path / "elsewhere"
    (Path(rig.repo) / layout.lease_key(encode_name(rig.vm))).unlink()  # of the dead one
    rig.sync(state=state)
    assert len(rig.objects("points")) == 2
    scribble(rig.disk, random.Random(6))
    done = rig.sync("--spool", spool)
    assert not done.all("sync.completing") and len(rig.objects("points")) == 3
    exact(rig)
    assert not held(spool)


@pytest.mark.parametrize("harm", ["flipped", "cut", "removed", "manifest", "sealed"])
def test_what_waits_and_is_damaged(rig: Rig, spool: Path, harm: str) -> None:
    """Nothing wrong is published: the disk is read again, at the latest by the run after the one that finds it."""
    killed_once_read(rig, "--spool", spool)
    victim = held(spool)[-1]
    if harm == "flipped":
        flip(victim, 5000)
    elif harm == "cut":
        os.truncate(victim, victim.stat().st_size - 1)
    elif harm == "removed":
        shutil.rmtree(spool)
    elif harm == "manifest":
        flip(next(rig.state.rglob("000.manifest")), 40)
    else:
        flip(sealed(rig)[0], 300)
    scribble(rig.disk, random.Random(7))
    if harm == "flipped":
        told = rig.sync("--spool", spool, code=4)
        assert "a pack in the spool does not read as it was written" in told.stderr and str(victim) in told.stderr
        assert not rig.objects("points")
    rig.sync("--spool", spool)
    assert len(rig.objects("points")) == 1
    exact(rig)
    assert not held(spool) and not sealed(rig)


def test_a_death_while_it_is_sent_casts_no_doubt_on_the_tracking(tmp_path: Path, spool: Path) -> None:
    """The VM was left as it was by then: what changed since is asked for, and nothing is compared in full."""
    with site_rig(tmp_path) as rig:
        vm = rig.add("db", [24 * MIB])
        rig.more = f'spool = "{spool}"\n'
        rig.write_config()
        rig.sync()
        vm.write(0, 0, random.Random(3).randbytes(4 * MIB))
        words = ["sync", "--config", rig.config, "--vm", "db", *SLOW, "--json"]
        child = subprocess.Popen([python(), "-m", "warmspare", *map(str, words)], stdout=subprocess.DEVNULL)
        wait_for(lambda: named(rig.home / "state", "sealed.json"))
        wait_for(lambda: not named(rig.home / "state", "unsettled.json"))
        child.kill()
        child.wait()
        assert not rig.clean(vm)
        vm.write(0, 8 * MIB, random.Random(4).randbytes(MIB))
        done = rig.sync()
        assert done.all("sync.completing") and rig.sequences(vm) == [1, 2, 3]
        assert [event["reason"] for event in done.all("disk.start")] == [""]
        rig.check(vm, vm.taken[-2], at=2)
        rig.check(vm)


# its bounds


def test_a_full_spool_makes_reading_as_slow_as_the_link(rig: Rig, spool: Path) -> None:
    """No more waits there than may, and the run ends well."""
    most = 0
    with started(rig, *SLOW, "--spool", spool, "--spool-size", "16MiB") as child:
        while child.poll() is None:
            most = max(most, weight(spool))
            time.sleep(0.02)
        assert child.returncode == 0
    exact(rig)
    assert 0 < most <= 16 * MIB


def weight(root: Path) -> int:
    """Bytes of all files below a directory in which they come and go."""
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(folder) / name).stat().st_size
    return total


def test_the_operator_hears_that_it_is_full(rig: Rig, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others' packs count too; nobody waits until they are gone."""
    monkeypatch.setattr(warmspare.sync.publishing.spool, "POLL_S", 0.05)
    others = spool / "other" / "packs"
    others.mkdir(parents=True)
    with (others / "1").open("wb") as file:
        file.truncate(64 * MIB)
    done = rig.sync("--spool", spool, "--spool-size", "32MiB")
    assert len(done.all("spool.full")) == 1 and done.last("spool.full")["directory"] == str(spool)
    exact(rig)


def test_a_spool_that_can_not_be_made(rig: Rig, spool: Path) -> None:
    spool.write_text("in the way")
    told = rig.sync("--spool", spool, code=4)
    assert str(spool) in told.stderr and "choose another place" in told.stderr


def test_two_states_must_not_share_a_spool(rig: Rig, spool: Path, tmp_path: Path) -> None:
    """The second is told so, and the first is not disturbed."""
    with started(rig, *SLOW, "--spool", spool) as child:
        wait_for(lambda: sealed(rig))
        told = rig.sync("--spool", spool, state=tmp_path / "elsewhere", code=6)
        assert "lease" in told.stderr or "another" in told.stderr
        assert child.wait(60) == 0
    exact(rig)


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--spool-size", "20GB"], "none is given"),
        (["--spool", "x", "--spool-size", "20"], "a size was expected"),
        (["--spool", "x", "--spool-size", "1MB"], "from 16MiB"),
    ],
)
def test_usage(rig: Rig, arguments: list[str], told: str) -> None:
    assert told in rig.sync(*arguments, code=2).stderr


def test_events(rig: Rig, spool: Path) -> None:
    """What is said of it is in words."""
    killed_once_read(rig, "--spool", spool)
    told: list[Event] = rig.sync("--spool", spool).events
    words = [parsed(event).sentence() for event in told if event["event"] == "sync.completing"]
    assert words and "restore point 1 at 20" in str(words[0])
    record = restore_point.decode(rig.point_path(1).read_bytes(), "here")
    assert str(record.created) in str(words[0])
