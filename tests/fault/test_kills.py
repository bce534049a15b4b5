"""kill -9 and failing calls at moments of every stage; ten seeded rounds here, all moments in the slow campaign."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from rigs.kills.campaign import SEALED, VICTIM, ReceiverWorld, Report, SenderWorld, choose, run

ROUNDS = int(os.environ.get("WARMSPARE_KILL_ROUNDS", "0")) or None  # of the slow campaign; all moments without it


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> SenderWorld:
    world = SenderWorld(tmp_path_factory.mktemp("sender"), 1)
    prepare(world)
    return world


def prepare(world: SenderWorld) -> None:
    """The disk as it was at the first point, for kills before the second is published."""
    (world.base / "replica.raw").rename(world.base / "disk-one")
    (world.base / "replica.raw").write_bytes((world.base / "disk-one").read_bytes())


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> ReceiverWorld:
    return ReceiverWorld(tmp_path_factory.mktemp("receiver"), 2, fresh=False)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> ReceiverWorld:
    return ReceiverWorld(tmp_path_factory.mktemp("newcomer"), 3, fresh=True)


def check(report: Report, least: int) -> None:
    print(report.table())
    assert sum(report.hits.values()) >= least, report.table()


def test_killed_senders(sender: SenderWorld) -> None:
    check(run(sender, random.Random(11), 9), 7)


@pytest.fixture(scope="module")
def spooling(tmp_path_factory: pytest.TempPathFactory) -> SenderWorld:
    world = SenderWorld(tmp_path_factory.mktemp("spooling"), 4, spooled=True)
    prepare(world)
    return world


def test_killed_senders_with_a_spool(spooling: SenderWorld) -> None:
    check(run(spooling, random.Random(17), 7), 5)
    check(run(spooling, random.Random(18), 3, only="before Spool"), 2)


def test_senders_with_a_spool_killed_again_and_again(spooling: SenderWorld) -> None:
    assert ordeals(spooling, 24, 4) >= 6


@pytest.mark.parametrize("only", ["before store.", "before os."])
def test_failing_calls_of_a_sender_with_a_spool(spooling: SenderWorld, only: str) -> None:
    check(run(spooling, random.Random(19), 4, act="fail", only=only), 3)


@pytest.mark.slow
def test_senders_with_a_spool_killed_everywhere(spooling: SenderWorld) -> None:
    check(run(spooling, random.Random(25), ROUNDS), 100)


@pytest.mark.slow
def test_senders_with_a_spool_killed_again_and_again_for_long(spooling: SenderWorld) -> None:
    assert ordeals(spooling, 26, 50) >= 75


def test_a_sender_killed_with_the_answer_to_its_publication(sender: SenderWorld) -> None:
    assert sender.strike("kill", "after Repository.publish", 1)
    assert sender.strike("kill", "after store.create", 1)


def ordeals(world: SenderWorld, seed: int, rounds: int) -> int:
    rng, moments = random.Random(seed), world.moments()

    def places() -> Iterator[tuple[str, int]]:
        for _ in range(rng.randrange(2, 5)):
            yield choose(moments, rng, 1)[0]

    kills = sum(world.ordeal(rng, places()) for _ in range(rounds))
    print(f"{kills} kills in {rounds} ordeals")
    return kills


def completions(world: SenderWorld, seed: int, rounds: int | None) -> None:
    """Kills while a run completes the one before; at all moments of that, or some."""
    rng, places = random.Random(seed), world.completing()
    for stage in ("sync.publishing.sealed.send_files", "sync.publishing.sealed.complete", "Repository.publish"):
        assert (f"before {stage}", 1) in places and (f"after {stage}", 1) in places, places
    chosen = places if rounds is None else rng.sample(places, rounds)
    kills = [world.ordeal(rng, [SEALED, place]) for place in chosen]
    print(f"{kills.count(2)} kills at {len(places)} moments of completing")
    assert kills.count(2) >= len(chosen) - 1 - len(chosen) // 10, list(zip(chosen, kills, strict=True))


def test_killed_while_completing_another_run(sender: SenderWorld) -> None:
    completions(sender, 31, 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sender", "spooling"])
def test_killed_anywhere_while_completing_another_run(name: str, request: pytest.FixtureRequest) -> None:
    completions(request.getfixturevalue(name), 32, ROUNDS)


def test_senders_killed_again_and_again(sender: SenderWorld) -> None:
    assert ordeals(sender, 16, 5) >= 8


@pytest.mark.slow
def test_senders_killed_again_and_again_for_long(sender: SenderWorld) -> None:
    assert ordeals(sender, 23, 100) >= 150


def test_killed_receivers(receiver: ReceiverWorld) -> None:
    check(run(receiver, random.Random(12), 6), 4)


def test_killed_newcomers(newcomer: ReceiverWorld) -> None:
    check(run(newcomer, random.Random(13), 4), 3)


@pytest.mark.parametrize("only", ["before store.", "before os."])
def test_failing_calls_of_a_sender(sender: SenderWorld, only: str) -> None:
    check(run(sender, random.Random(14), 5, act="fail", only=only), 4)


@pytest.mark.parametrize("only", ["before store.", "before os.", "before native."])
def test_failing_calls_of_a_receiver(receiver: ReceiverWorld, only: str) -> None:
    check(run(receiver, random.Random(15), 4, act="fail", only=only), 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sender", "receiver", "newcomer"])
def test_every_moment(name: str, request: pytest.FixtureRequest) -> None:
    """Kills at the first, the last and one other occurrence of every moment there is."""
    check(run(request.getfixturevalue(name), random.Random(21), ROUNDS), 50)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sender", "receiver", "newcomer"])
def test_every_failing_call(name: str, request: pytest.FixtureRequest) -> None:
    world = request.getfixturevalue(name)
    for only in ("before store.", "before os.", "before native."):
        if name != "sender" or "native" not in only:
            check(run(world, random.Random(22), ROUNDS, act="fail", only=only), 1)


def test_the_trap_is_where_the_stages_are(
    sender: SenderWorld, receiver: ReceiverWorld, newcomer: ReceiverWorld
) -> None:
    """A stage that is renamed must not fall out of the campaign unseen."""
    met = {m for world in (sender, receiver, newcomer) for m in world.moments()}
    for stage in (
        "store.get",
        "store.get_range",
        "store.create",
        "store.replace",
        "store.list",
        "store.upload",
        "FileUpload.__aenter__",
        "FileUpload.write",
        "FileUpload.__aexit__",
        "RawSource._load",
        "PageFilter.span",
        "sync.stages.transfer.encode",
        "PackWriter.add",
        "PackWriter.finish",
        "ManifestFile.finish",
        "sync.sender.publish",
        "LastRun.take_in",
        "Preparation.disks",
        "Sender._commit",
        "Sender._leave",
        "DiskRun.transfer",
        "DiskRun.describe",
        "DiskRun.commit",
        "Journal.begin",
        "Journal.seal",
        "LocalState.unsettle",
        "LocalState.settle",
        "Journal.clear",
        "PageLog.append",
        "PageLog.sync",
        "PageMap.begin",
        "PageMap.write",
        "PageMap.finish",
        "LocalState.remember",
        "CacheHeader.write",
        "HashTable.stage",
        "HashTable.commit",
        "Repository.publish",
        "Lease._acquire",
        "Lease._release",
        "Replica.admit",
        "Replica.move",
        "Replica.resize",
        "Replica.empty",
        "PointApply._prepare",
        "PointApply._disk",
        "Receiver._heal",
        "Merge.run",
        "Merge._punch",
        "Merge._range",
        "apply.merge.apply_frame",
        "BlockRepair.repair",
        "apply.block_repair.write_block",
        "ChainBlocks.gather",
        "ChainBlocks._load",
        "native.apply_records",
        "native.punch",
    ):
        assert f"before {stage}" in met and f"after {stage}" in met, stage
    assert VICTIM.exists()
