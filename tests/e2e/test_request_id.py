"""`--request-id`: however often a run is tried, and wherever, it makes one point, and each answer names that."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rig import KIB, MIB, Outcome, Rig, command, made, same, scribble
from rigs.host.forked import Forked
from rigs.host.hearing import all_heard
from rigs.kills.selfkill import killed_at
from rigs.stores import s3front
from rigs.stores.s3front import Front
from servers import S3Place
from warmspare.format import restore_point
from warmspare.model.ids import VmId
from warmspare.repository.chain import Point, Repository
from warmspare.sync import need

RUN = "scheduled__2026-01-02T03:15:00+00:00"
WRITTEN_AGAIN = ("/lease.json", "/index/", "/probes/")  # docs/format.md, "Keys"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    rig.disk.write_bytes(random.Random(1).randbytes(2 * MIB + 5000))
    made(rig.repo)
    return rig


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sequence of each record that is read, as it is read."""
    numbers: list[int] = []
    load = Repository.load

    async def counted(self: Repository, vm: VmId, sequence: int) -> Point:
        numbers.append(sequence)
        return await load(self, vm, sequence)

    monkeypatch.setattr(Repository, "load", counted)
    return numbers


def words(rig: Rig, request: str, *more: object, state: str = "state", what: str = "sync") -> list[object]:
    place = ("--vm", rig.vm, "--repo", rig.repo, "--state", rig.home / state)
    return [what, rig.disk, *place, *rig.more, "--request-id", request, *more]


def tried(rig: Rig, request: str, *more: object, state: str = "state", what: str = "sync") -> Outcome:
    outcome = command(*words(rig, request, *more, state=state, what=what))
    assert outcome.code == 0, outcome
    return outcome


def label(rig: Rig, sequence: int) -> str:
    return f"{sequence}-{restore_point.identity(rig.point_path(sequence).read_bytes())[:8]}"


def count(rig: Rig) -> int:
    return len(rig.objects("points"))


def test_a_retry_answers_with_the_point_that_was_made(rig: Rig) -> None:
    """Also where it was to begin the chain, on another host, and when other points have been made since."""
    done = tried(rig, RUN, "--new").last("sync.done")
    before = rig.snapshot()
    scribble(rig.disk, random.Random(2))
    for state in ("state", "elsewhere", "elsewhere"):
        for more in (["--new"], [], ["--not-after", "0"]):
            outcome = tried(rig, RUN, *more, state=state)
            end = outcome.last("sync.unneeded")
            assert {name: end[name] for name in ("point", "sequence", "sha256")} == {
                name: done[name] for name in ("point", "sequence", "sha256")
            }
            assert end["request_id"] == RUN and not outcome.all("sync.start")
    assert rig.snapshot() == before
    assert tried(rig, RUN, what="plan").last("sync.unneeded")["point"] == done["point"]
    assert tried(rig, "another", what="plan").last("plan.done")["bytes_changed"] > 0
    assert tried(rig, "another").last("sync.done")["parent"] == done["point"]
    assert rig.sync().last("sync.done")["sequence"] == 3  # none was named
    for state in ("state", "elsewhere", "a third"):
        assert tried(rig, RUN, state=state).last("sync.unneeded")["point"] == done["point"]
    assert count(rig) == 3
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_chain_that_another_run_has_begun_is_refused_with_new(rig: Rig) -> None:
    tried(rig, RUN, "--new")
    for state in ("state", "elsewhere"):
        outcome = command(*words(rig, "another", "--new", state=state))
        assert outcome.code == 2 and "has begun already" in outcome.stderr
    assert count(rig) == 1


def test_not_after_counts_where_no_point_was_made_for_it(rig: Rig) -> None:
    done = tried(rig, RUN, "--new", "--not-after", "0").last("sync.done")
    end = tried(rig, "another", "--not-after", "0").last("sync.unneeded")
    assert end["point"] == done["point"] and "request_id" not in end


def test_points_and_copies_have_it(rig: Rig) -> None:
    tried(rig, RUN, "--new")
    rig.sync()
    shown = command("points", "--repo", rig.repo).all("point")
    assert [point.get("request_id") for point in shown] == [RUN, None]
    other = replace(rig, repo=str(rig.home / "copy"))
    made(other.repo)
    assert command("copy", "--from", rig.repo, "--to", other.repo).code == 0
    assert tried(other, RUN, state="elsewhere").last("sync.unneeded")["point"] == label(rig, 1)
    audit = command("audit", "repository", "--repo", other.repo, "--deep", "--reports", rig.home / "reports")
    assert audit.code == 0


@pytest.mark.parametrize("wrong", ["", " ", "x" * 201, " x", "a\nb", "x\n", "a\x1b[2J", "\u202eb", "\u00fc"])
def test_what_is_no_request_ID_is_refused(rig: Rig, wrong: str) -> None:
    outcome = command(*words(rig, wrong, "--new"))
    assert outcome.code == 2 and "is no request ID" in outcome.stderr and "--request-id" in outcome.stderr
    (rig.home / "none.toml").write_text("")
    outcome = command("sync", "--all", "--config", rig.home / "none.toml", "--request-id", wrong)
    assert outcome.code == 2 and "is no request ID" in outcome.stderr
    assert count(rig) == 0


# -- what is read -----------------------------------------------------------------------------------------------------


def test_the_newest_are_looked_at_newest_first(rig: Rig, reads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(need, "LOOKED_AT", 12)
    monkeypatch.setattr(need, "AHEAD", 4)
    tried(rig, "run 1", "--new")
    for number in range(2, 21):
        tried(rig, f"run {number}")
    reads.clear()
    assert tried(rig, "run 20", state="a").last("sync.unneeded")["sequence"] == 20
    assert set(reads) == {20}
    reads.clear()
    assert tried(rig, "run 18", state="b").last("sync.unneeded")["sequence"] == 18
    assert set(reads) == {20, 19, 18, 17, 16}
    reads.clear()
    assert tried(rig, "run 9", state="c").last("sync.unneeded")["sequence"] == 9
    assert min(reads) == 8
    assert tried(rig, "run 8", state="d").last("sync.done")["sequence"] == 21  # it is beyond those
    assert tried(rig, "run 8", state="c").last("sync.unneeded")["sequence"] == 21  # the newest of that name


def test_what_a_host_knows_is_not_read_again(rig: Rig, reads: list[int]) -> None:
    """A first try, which finds nothing, reads the point that it goes on from, as a sync without a request does."""
    tried(rig, "run 1", "--new")
    for number in range(2, 30):
        tried(rig, f"run {number}", state="elsewhere" if number % 5 == 0 else "state")
    reads.clear()
    rig.sync("--not-after", "29")
    plainly = Counter(reads)
    tried(rig, "run 31")
    reads.clear()
    tried(rig, "run 32")
    assert Counter(number - 2 for number in reads) == plainly
    reads.clear()
    assert tried(rig, "run 3").last("sync.unneeded")["sequence"] == 3
    assert set(reads) <= {3, 31, 32}
    [notes] = rig.state.glob("*/*/requests.json")
    notes.write_bytes(notes.read_bytes()[:-9] + b"garbage!\n")
    again = tried(rig, "run 4")
    assert again.last("sync.unneeded")["sequence"] == 4 and again.all("state.unreadable")
    assert count(rig) == 32


def test_a_record_that_was_replaced_is_no_answer(rig: Rig) -> None:
    """What a host has noted is held against the repository."""
    tried(rig, RUN, "--new")
    tried(rig, "another")
    path = rig.point_path(1)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"warmspare 0", b"warmspare 1"))
    assert "was forked" in command(*words(rig, RUN)).stderr
    assert "does not descend" in command(*words(rig, RUN, state="elsewhere")).stderr


# -- at once, and killed ----------------------------------------------------------------------------------------------


@pytest.fixture
def front(seaweed_place: S3Place) -> Iterator[Front]:
    with s3front.fronting(seaweed_place.server.endpoint_url) as server:
        yield server


def test_ten_senders_at_once_make_one_point(tmp_path: Path, seaweed_place: S3Place, front: Front) -> None:
    """Processes with three state directories, all of which were told to begin the chain."""
    rig = Rig(tmp_path, repo=seaweed_place.uri, more=["--endpoint-url", front.url])
    rig.disk.write_bytes(random.Random(3).randbytes(6 * MIB))
    made(rig.repo, *rig.more)
    lines = [words(rig, RUN, "--new", "--json", state=f"state {number % 3}") for number in range(10)]
    ends = []
    processes = [Forked("-m", "warmspare", *line) for line in lines]
    for line, process in zip(lines, processes, strict=True):
        out, _ = process.communicate(300)
        event = all_heard(out.decode())[-1]
        while event["event"] == "error":  # the lease is another's
            assert (event["exit_code"], event["retryable"]) == (6, True), event
            retry = command(*line[:-1])
            event = retry.events[-1]
        ends.append(event)
    assert Counter(event["event"] for event in ends) == {"sync.done": 1, "sync.unneeded": 9}
    assert len({(event["point"], event["sequence"], event["sha256"]) for event in ends}) == 1
    written = Counter(path for path in front.written if not any(part in path for part in WRITTEN_AGAIN))
    assert not {path: times for path, times in written.items() if times > 1}
    assert sum("/points/" in path for path in written) == 1 and any("/packs/" in path for path in written)
    assert command("apply", "--vm", rig.vm, "--repo", rig.repo, *rig.more, "--to", rig.replica).code == 0
    assert same(rig.disk, rig.replica)


def test_two_that_both_found_none_make_one_point(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the lease kept nobody out: both have looked, and one number is given once."""
    tried(rig, "before", "--new")
    publish, others = Repository.publish, ["elsewhere"]
    told: list[Outcome] = []

    async def late(self: Repository, vm: VmId, sequence: int, data: bytes) -> bool:
        while others:
            from warmspare.threads import in_thread

            (rig.root / "lease.json").unlink()
            told.append(await in_thread(tried, rig, RUN, state=others.pop()))
        return await publish(self, vm, sequence, data)

    monkeypatch.setattr(Repository, "publish", late)
    scribble(rig.disk, random.Random(4))
    lost = command(*words(rig, RUN))
    assert lost.code == 6 and lost.events[-1]["retryable"]
    monkeypatch.undo()
    assert tried(rig, RUN).last("sync.unneeded")["point"] == told[0].last("sync.done")["point"]
    assert count(rig) == 2


@pytest.mark.parametrize("state", ["state", "elsewhere"])
@pytest.mark.parametrize("moment", ["sync.sender:Sender._commit", "sync.local.local_state:LocalState.remember_rate"])
def test_killed_between_publication_and_answer(rig: Rig, moment: str, state: str) -> None:
    killed_at(f"warmspare.{moment}", 1, *words(rig, RUN, "--new"))
    published = label(rig, 1)
    scribble(rig.disk, random.Random(5))
    for again in (state, state, "a third"):
        assert tried(rig, RUN, "--new", state=again).last("sync.unneeded")["point"] == published
    assert count(rig) == 1
    done = tried(rig, "the next").last("sync.done")
    assert done["parent"] == published and 0 < done["bytes_changed"] < MIB + 500 * KIB
    rig.apply()
    assert same(rig.disk, rig.replica)


@pytest.mark.parametrize("state", ["state", "elsewhere"])
@pytest.mark.parametrize("moment", ["sync.journal.journal:Journal.seal", "sync.sender:publish"])
def test_killed_before_publication(rig: Rig, moment: str, state: str) -> None:
    """A retry makes the point; where the dead one had read everything for it, it is the retry's answer."""
    killed_at(f"warmspare.{moment}", 1, *words(rig, RUN, "--new"))
    assert count(rig) == 0
    first = tried(rig, RUN, "--new", state=state)
    whole = moment.endswith("publish") and state == "state"
    end = first.last("sync.unneeded" if whole else "sync.done")
    assert end["point"] == label(rig, 1) and len(first.all("sync.completing")) == whole
    for again in ("state", "elsewhere", "a third"):
        assert tried(rig, RUN, "--new", state=again).last("sync.unneeded")["point"] == end["point"]
    assert count(rig) == 1
    scribble(rig.disk, random.Random(6))
    assert tried(rig, "the next").last("sync.done")["sequence"] == 2
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_point_of_another_request_is_finished_and_does_not_answer(rig: Rig) -> None:
    killed_at("warmspare.sync.sender:publish", 1, *words(rig, RUN, "--new"))
    scribble(rig.disk, random.Random(7))
    outcome = tried(rig, "the next")
    assert outcome.all("sync.completing") and outcome.last("sync.done")["parent"] == label(rig, 1)
    assert [rig.point(number).request_id for number in (1, 2)] == [RUN, "the next"]
    assert tried(rig, RUN, "--new", state="elsewhere").last("sync.unneeded")["sequence"] == 1
