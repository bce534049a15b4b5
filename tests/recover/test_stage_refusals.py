"""What staging refuses or can't do, and what it says then; where bytes come from; rights and encryption."""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from pathlib import Path

import pytest

from recover.stagerig import StageRig, elsewhere
from rig import MIB, command, random_disk, scribble
from rigs.aws.ebsparts import Refusal
from suite.remedies import remedy
from warmspare.observe.event import Event
from warmspare.observe.events import Events
from warmspare.observe.kinds.stage import StagePoint
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.repository.blocks.chain_blocks import ChainBlocks

KEY = "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c"
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def synced(rig: StageRig) -> StageRig:
    random_disk(rig.disk, 12 * MIB + 512, random.Random(5))
    rig.sync()
    return rig


def test_from_a_replica_which_stays_as_it_was(synced: StageRig) -> None:
    synced.apply()
    before = (synced.replica.read_bytes(), synced.replica.stat().st_mtime_ns)
    done = synced.stage("--replica", synced.replica)
    assert (synced.replica.read_bytes(), synced.replica.stat().st_mtime_ns) == before
    (made,) = synced.snapshots(done)
    synced.demand_same(made.id)
    read = done.last("stage.disk.done")["bytes_read"]
    assert read <= done.last("stage.done")["bytes_put"] and not done.all("finding")


def test_a_rotten_block_of_a_replica_comes_from_the_chain(synced: StageRig) -> None:
    synced.apply()
    at = next(iter(sorted(synced.touched(1)))) * (512 << 10) + 70_000
    synced.damage(synced.replica, at)
    done = synced.stage("--replica", synced.replica)
    assert done.last("finding")["blocks"] == [at >> 16]
    synced.demand_same(synced.snapshots(done)[0].id)


def test_a_replica_that_is_shorter_comes_from_the_chain(synced: StageRig) -> None:
    synced.apply()
    os.truncate(synced.replica, 3 * MIB)
    synced.demand_same(synced.snapshots(synced.stage("--replica", synced.replica))[0].id)


def test_a_replica_at_another_point(synced: StageRig) -> None:
    synced.apply()
    scribble(synced.disk, random.Random(1))
    synced.sync()
    assert "the replica is at 1-" in synced.stage("--replica", synced.replica, code=2).stderr
    assert not synced.account.snapshots
    synced.stage("--replica", synced.replica, "--at", 1)


def test_no_replica_there(synced: StageRig) -> None:
    assert "no replica" in synced.stage("--replica", synced.home / "none", code=2).stderr
    (synced.home / "file").write_bytes(b"x")
    assert "no replica" in synced.stage("--replica", synced.home / "file", code=2).stderr


def test_a_damaged_pack_is_never_staged(synced: StageRig) -> None:
    pack = synced.objects("packs")[0]
    before = synced.damage(pack, pack.stat().st_size // 2)
    synced.stage(code=5)
    assert all(synced.account.state(each) == "pending" for each in synced.account.snapshots.values())
    from rig import overwrite

    overwrite(pack, before)
    done = synced.stage()
    assert done.last("stage.disk")["resumed"]
    synced.demand_same(synced.snapshots(done)[0].id)


@remedy(
    "put the damaged objects back from a copy of the repository and stage again, or sync these blocks again from the "
    "source; nothing wrong was put"
)
def test_a_chain_that_gives_other_bytes(synced: StageRig) -> None:
    """Sound by themselves, as of a pack that was made for another place: only the blocks' hashes tell."""
    fill = ChainBlocks.fill

    async def other(self: ChainBlocks, window: BlockWindow, positions: list[int] | None = None) -> None:
        await fill(self, window, positions)
        window.block(0)[100] ^= 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChainBlocks, "fill", other)
        synced.stage(code=5)
    assert all(synced.account.state(each) == "pending" for each in synced.account.snapshots.values())
    synced.demand_same(synced.snapshots(synced.stage())[0].id)


def test_a_rolled_back_repository(synced: StageRig) -> None:
    scribble(synced.disk, random.Random(1))
    synced.sync()
    synced.stage()
    synced.point_path(2).unlink()
    assert "rolled back" in synced.stage(code=5).stderr
    assert len(synced.account.snapshots) == 1


def test_a_forked_repository(synced: StageRig) -> None:
    kept = {path: path.read_bytes() for path in Path(synced.repo).rglob("*") if path.is_file()}
    scribble(synced.disk, random.Random(1))
    synced.sync()
    synced.stage()
    for path in [path for path in Path(synced.repo).rglob("*") if path.is_file() and path not in kept]:
        path.unlink()
    scribble(synced.disk, random.Random(2))
    synced.sync(state=synced.home / "another")
    assert "forked" in synced.stage(code=5).stderr


def test_an_older_point_by_name(synced: StageRig) -> None:
    first = synced.disk.read_bytes()
    scribble(synced.disk, random.Random(1))
    synced.sync()
    synced.stage()
    made = synced.snapshots(synced.stage("--at", 1, "--keep", 5))[0]
    assert not made.parent
    (synced.home / "first").write_bytes(first)
    synced.demand_same(made.id, synced.home / "first")


def test_what_was_begun_and_can_not_be_gone_on_with_stays(synced: StageRig) -> None:
    """Neither it nor what can't be asked for after the staging makes that fail."""
    synced.account.faults.refuse = lambda action: (
        Refusal(403, "AccessDeniedException", "no") if action == "PutSnapshotBlock" else None
    )
    synced.stage(code=8)
    [pending] = synced.account.snapshots
    synced.account.snapshots[pending].tags["warmspare:parent"] = "snap-00000000000000000"
    synced.account.faults.refuse = lambda action: (
        Refusal(403, "UnauthorizedOperation", "no") if action == "DeleteSnapshot" else None
    )
    done = synced.stage()
    assert done.last("housekeeping.warning")["object"] == pending
    synced.demand_same(synced.snapshots(done)[0].id)
    synced.account.faults.refuse = lambda action: None
    synced.stage()
    assert pending not in synced.account.snapshots


def test_encryption_is_asked_for_once_and_inherited(synced: StageRig) -> None:
    plain = synced.snapshots(synced.stage())[0]
    scribble(synced.disk, random.Random(1))
    synced.sync()
    full = synced.snapshots(synced.stage("--kms-key", KEY))[0]
    assert full.encrypted and full.kms_key == KEY and not full.parent and not plain.encrypted
    scribble(synced.disk, random.Random(2))
    synced.sync()
    child = synced.snapshots(synced.stage("--kms-key", KEY))[0]
    assert child.parent == full.id and child.kms_key == KEY
    synced.demand_same(child.id)


def test_tags_of_the_user(synced: StageRig) -> None:
    made = synced.snapshots(synced.stage("--tag", "cost=42", "--tag", "owner=a=b"))[0]
    assert made.tags["cost"] == "42" and made.tags["owner"] == "a=b" and made.tags["Name"].startswith("warmspare vm 1-")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--follow", "--dry-run"],
        ["--follow", "--at", "1"],
        ["--keep", "0"],
        ["--puts", "0"],
        ["--kms-key", "alias/x"],
        ["--tag", "x"],
        ["--tag", "aws:x=1"],
        ["--tag", "warmspare:vm=1"],
        ["--replica-state", "/x"],
        ["--at", "9"],
    ],
)
def test_wrong_usage(synced: StageRig, wrong: list[str]) -> None:
    synced.stage(*wrong, code=2)
    assert not synced.account.snapshots


def test_a_dry_run_changes_nothing(synced: StageRig) -> None:
    plan = synced.stage("--dry-run").last("stage.plan")
    assert set(synced.account.actions) == {"ec2:DescribeSnapshots"}
    assert plan["puts"] == len(synced.snapshots(synced.stage())[0].blocks)
    assert synced.stage("--dry-run").last("stage.plan")["puts"] == 0


@pytest.mark.parametrize(
    ("action", "code", "says"),
    [
        ("StartSnapshot", "AccessDeniedException", "policy in docs"),
        ("PutSnapshotBlock", "AccessDeniedException", "policy in docs"),
        ("CompleteSnapshot", "AccessDeniedException", "policy in docs"),
        ("DescribeSnapshots", "UnauthorizedOperation", "policy in docs"),
        ("StartSnapshot", "UnrecognizedClientException", "access key"),
        ("StartSnapshot", "SnapshotLimitExceeded", "quota raised"),
        ("StartSnapshot", "InvalidSignatureException", "clock"),
        ("DescribeSnapshots", "AuthFailure", "clock"),
        ("DescribeSnapshots", "RequestExpired", "clock"),
    ],
)
def test_what_aws_refuses(synced: StageRig, action: str, code: str, says: str) -> None:
    """With AWS's code and sentence behind words of ours, and nothing that it quotes of keys."""
    sentence = f"No {action} today. The Canonical String for this request should have been 'x-amz-security-token:S'"
    synced.account.faults.refuse = lambda asked: Refusal(403, code, sentence) if asked == action else None
    outcome = synced.stage(code=8)
    assert says in outcome.stderr and action in outcome.stderr
    assert f"[{code}: No {action} today. (the rest is of the signature, and left out)]" in outcome.stderr
    assert "security-token" not in outcome.stderr


def test_no_region_and_no_credentials(synced: StageRig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert "region" in synced.stage(code=8).stderr
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    assert "credentials" in synced.stage(code=8).stderr


def test_follow_stages_each_new_point(synced: StageRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmspare.recover.staging.stager.Stage.follow.__defaults__", (0.1,))
    rng, told = random.Random(3), list[str]()
    emit = Events.emit

    def telling(events: Events, event: Event) -> None:
        emit(events, event)
        if isinstance(event, StagePoint):
            told.append(event.point.partition("-")[0])

    monkeypatch.setattr(Events, "emit", telling)

    def others() -> None:
        try:
            for number in ("1", "2", "3"):
                while number not in told:
                    time.sleep(0.05)
                if number != "3":
                    scribble(synced.disk, rng)
                    # In a process of its own: the command in this one has the signal handlers and the output.
                    elsewhere("sync", synced.disk, "--vm", synced.vm, "--repo", synced.repo, "--state", synced.state)
        finally:
            os.kill(os.getpid(), 2)

    thread = threading.Thread(target=others)
    thread.start()
    outcome = command(*synced.arguments("--follow"))
    thread.join()
    assert outcome.code == 130
    assert [event["point"].partition("-")[0] for event in outcome.all("stage.point")] == ["1", "2", "3"]


def test_the_policy_in_the_documents_is_what_the_code_calls(synced: StageRig) -> None:
    synced.stage("--keep", 1, "--kms-key", KEY)
    scribble(synced.disk, random.Random(1))
    synced.sync()
    synced.stage("--keep", 1, "--kms-key", KEY)
    text = (DOCS / "rights.md").read_text()
    policy = json.loads(re.findall(r"<!-- policy: stage -->\n```json\n(.*?)```", text, re.S)[0])
    named = {action for statement in policy["Statement"] for action in statement["Action"]}
    aws = {action for action in named if not action.startswith("s3:")}  # those of S3: e2e/test_s3_rights.py
    asked = set(synced.account.actions)
    of_key = {action for action in asked if action.startswith("kms:")}
    assert aws == asked - of_key
    # Of a key, AWS asks in our name; the stand-in knows one of its actions, and AWS's list has the others.
    (besides,) = re.findall(r"With `--kms-key`, also (.*?) on that key", text, re.S)
    assert of_key and of_key <= set(re.findall(r"`(kms:\w+)`", besides))
