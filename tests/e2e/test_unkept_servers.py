"""The real commands at S3 servers that break a promise: from the start, or from some moment on."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.unkeptfront import Front, fronting
from rig import MIB, Outcome, Rig, command, random_disk, same, scribble
from servers import S3Place


@pytest.fixture
def front(moto_place: S3Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    with fronting(moto_place.server.endpoint_url) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
        yield made


@pytest.fixture
def rig(front: Front, moto_place: S3Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A disk; no repository yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "usual"))
    rig = Rig(tmp_path, repo=moto_place.uri)
    random_disk(rig.disk, MIB, random.Random(1))
    return rig


def init(rig: Rig, *more: object, code: int = 0) -> Outcome:
    done = command("init", rig.repo, *more)
    assert done.code == code, done
    return done


def sync(rig: Rig, *more: object, host: str = "state") -> Outcome:
    return command("sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.home / host, *more)


def elsewhere(rig: Rig) -> None:
    """What follows is done on a host that has not seen the store: `init` leaves a note for the syncs of its own."""
    notes = rig.home / "usual" / "warmspare" / "promises"
    assert list(notes.glob("*.json"))
    shutil.rmtree(notes)


def promises(outcome: Outcome) -> list[str]:
    return [event["promise"] for event in outcome.all("store.promise") if event["promise"] != "checksums"]


REFUSED = {
    "both ignored": {"ignore-if-none-match", "ignore-if-match"},
    "creates ignored": {"ignore-if-none-match"},
    "unknown": {"conditions-501"},
    "always refused": {"always-412"},
    "refused and called done": {"refused-200"},
    "stale": {"stale-heads"},
}
USED = {
    "replacements ignored": ({"ignore-if-match"}, ["replace"]),
    "replacements refused": ({"if-match-412"}, ["replace"]),
    "bare tags": ({"bare-tags"}, []),
    "weak tags": ({"weak-tags"}, ["replace"]),
    "one tag": ({"one-tag"}, ["replace"]),
    "the date": ({"date-off"}, ["clock"]),
}


# Those that unit/test_promises.py has too, by other means, are not in each run of the tests.
SLOW = {"creates ignored", "unknown", "always refused", "replacements ignored", "bare tags", "one tag", "the date"}


def some(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in names]


@pytest.mark.parametrize("name", some(REFUSED))
def test_refused_before_there_is_anything(name: str, rig: Rig, front: Front) -> None:
    """And so is a server that became one, by a host that meets it later."""
    front.rules = set(REFUSED[name])
    done = init(rig, code=4)
    assert len(done.stderr.splitlines()) == 1, done
    front.rules = set()
    assert init(rig).last("init.done")["made"], "nothing was there"
    elsewhere(rig)
    front.rules = set(REFUSED[name])
    done = sync(rig, "--new")
    assert done.code == 4 and not done.all("disk.start"), done


@pytest.mark.parametrize("name", some(USED))
def test_used_and_said(name: str, rig: Rig, front: Front) -> None:
    front.rules, said = USED[name]
    assert promises(init(rig)) == said or name == "bare tags"
    for number in range(2):
        done = sync(rig, *["--new"] * (number == 0))
        again = said if said == ["replace"] else []
        assert done.code == 0 and (promises(done) == again or name == "bare tags"), (number, done)
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_single_sender(rig: Rig, front: Front) -> None:
    front.rules = {"ignore-if-none-match", "ignore-if-match"}
    assert "single_sender" in init(rig, code=4).stderr
    assert "create" in promises(init(rig, "--single-sender"))
    for number in range(2):
        done = sync(rig, "--single-sender", *["--new"] * (number == 0))
        assert done.code == 0 and "create" in promises(done), done
    assert sync(rig).code == 4, "each run says it, or it is not so"
    rig.apply()
    assert same(rig.disk, rig.replica)
    scribble(rig.disk, random.Random(3))
    audit = ("audit", "source", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.home / "state", "--repair")
    none = rig.home / "none.txt"
    none.touch()
    assert command(*audit, "--extents", none).code == 4, "the healing sync is no other"
    done = command(*audit, "--extents", none, "--single-sender")
    assert done.code == 5 and "create" in promises(done), done
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_published_point_is_overwritten_later(rig: Rig, front: Front) -> None:
    """The promise breaks when both hosts have tried the server. Who was overwritten says so at its next run."""
    init(rig)
    assert sync(rig, "--new").code == sync(rig, host="other").code == 0
    front.rules = {"ignore-if-none-match", "ignore-if-match"}
    scribble(rig.disk, random.Random(3))
    ours = sync(rig)
    assert ours.code == 0
    lost = ours.last("sync.done")["point"]
    import warmspare.sync.sender
    from warmspare.model.ids import VmId
    from warmspare.repository.chain import Point, Repository

    async def before(repository: Repository, vm: VmId, known: object) -> tuple[Point, list[object]]:
        return await repository.load(vm, 2), []

    with pytest.MonkeyPatch.context() as patch:  # the other host had begun before ours published
        patch.setattr(warmspare.sync.sender, "since", before)
        scribble(rig.disk, random.Random(4))
        other = sync(rig, host="other")
    assert other.code == 0
    said = sync(rig)
    stands = other.last("sync.done")["point"]
    assert said.code == 5 and lost in said.stderr and stands in said.stderr
    assert sync(rig).code == 4, "it is not believed any more"


def test_a_reader_tries_nothing(rig: Rig, front: Front) -> None:
    init(rig)
    sync(rig, "--new")
    front.asked.clear()
    front.rules = {"ignore-if-none-match", "ignore-if-match", "deny-probes"}
    rig.apply()
    assert command("points", "--vm", rig.vm, "--repo", rig.repo).code == 0
    assert not [path for method, path in front.asked if method in ("PUT", "POST", "DELETE") or "probes" in path]


def test_what_the_credentials_can_not_do(rig: Rig, front: Front) -> None:
    """A sender that may not try the store is told of the right; one that may not remove anything is warned once."""
    init(rig)
    elsewhere(rig)
    front.rules = {"deny-probes"}
    done = sync(rig, "--new")
    assert done.code == 4 and "probes/" in done.stderr
    front.rules = {"deny-delete"}
    done = sync(rig, "--new")
    rights = [event["right"] for event in done.all("housekeeping.warning")]
    assert done.code == 0 and rights == ["s3:AbortMultipartUpload, s3:DeleteObject"]
    assert not sync(rig).all("housekeeping.warning")


def test_a_sync_of_nothing_costs_one_small_request_more(rig: Rig, front: Front) -> None:
    """What was published, what it follows and what stands above it are read; two requests that were sent before are
    not."""
    init(rig)
    sync(rig, "--new")
    sync(rig)
    front.asked.clear()
    sync(rig)
    assert not [path for _, path in front.asked if "probes" in path]
    assert "PUT" in {method for method, path in front.asked if path.endswith("lease.json")}
    points = [(method, path.partition("?")[0].rpartition("/")[2]) for method, path in front.asked if "/points/" in path]
    key = "%010d.json"
    assert sorted(points) == sorted(
        [("GET", key % 2), ("PUT", key % 3), ("GET", key % 3), ("GET", key % 2), ("HEAD", key % 4)]
    )
