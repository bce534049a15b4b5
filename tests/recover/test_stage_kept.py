"""Old snapshots that AWS does not let staging delete: what is staged is staged, each is named with its reason in every
run, and goes when it can."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from recover.stagerig import StageRig
from rig import MIB, random_disk, scribble
from rigs.aws.ebsparts import Refusal, Snapshot
from rigs.aws.ebsstandin import Standin, environment, serving
from rigs.aws.quickaws import quick
from rigs.host.hearing import Record, recorder
from suite.remedies import ask_aws, remedy
from warmspare.observe.catalogue import parsed
from warmspare.observe.events import Events
from warmspare.recover.aws import refused_deletion
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.client import Aws, AwsSettings
from warmspare.recover.staging import staged_removal, stager
from warmspare.recover.staging.expiry import Keep
from warmspare.store.contract import Store
from warmspare.store.opening import open_store

OLD = 3
BACKUP = (
    "This snapshot is managed by the AWS Backup service and cannot be deleted via EC2 APIs. If you wish to delete this "
    "snapshot, please do so via the Backup console."
)
DENY = (
    "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/spare is not authorized to "
    "perform: ec2:DeleteSnapshot on resource: arn:aws:ec2:eu-central-1::snapshot/ID"
)
# (code, status, AWS's sentence, a part of ours). AWS documents for DeleteSnapshot that an image, AWS Backup, a missing
# right, a policy and a lock stand against it; no code for a lock; and of "Error codes for the Amazon EC2 API" those
# that every action can give, or that are of snapshots.
OF_THE_SNAPSHOT = [
    ("InvalidSnapshot.InUse", 400, "The snapshot ID is currently in use by ami-0123456789abcdef0", "an image uses it"),
    ("InvalidParameterValue", 400, BACKUP, "AWS Backup keeps it"),
    ("UnauthorizedOperation", 403, DENY + " because no identity-based policy allows it", "does not allow"),
    ("UnauthorizedOperation", 403, DENY + " with an explicit deny in a service control policy", "a policy of the"),
    ("UnauthorizedOperation", 403, "You are not authorized to perform this operation.", "does not allow"),
    ("OperationNotPermitted", 400, "The operation is not permitted.", "AWS protects it"),
    ("OperationNotPermitted", 400, "Snapshot ID is locked in compliance mode until 2030-01-01", "it is locked"),
    ("InvalidSnapshot.Locked", 400, "The snapshot is locked", "it is locked"),
    ("SnapshotLockedException", 409, "ID is locked in governance mode.", "it is locked"),
    ("IncorrectState", 400, "The snapshot ID is in the Recycle Bin", "it lies in the Recycle Bin"),
    ("IncorrectState", 400, "The resource is in an incorrect state for the request", "does not delete it"),
    ("DependencyViolation", 400, "The snapshot has a dependent object", "does not delete it"),
    ("InvalidSnapshotID.Malformed", 400, "Invalid id: ID", "does not delete it"),
    ("InvalidParameter", 400, "The parameter snapshotId is invalid", "does not delete it"),
    ("InvalidParameterCombination", 400, "no", "does not delete it"),
    ("InvalidState", 400, "no", "does not delete it"),
    ("MissingParameter", 400, "no", "does not delete it"),
    ("ResourceLimitExceeded", 400, "no", "does not delete it"),
    ("ConcurrentSnapshotLimitExceeded", 400, "no", "does not delete it"),
    ("UnknownParameter", 400, "no", "does not delete it"),
    ("Unsupported", 400, "no", "does not delete it"),
    ("UnsupportedOperation", 400, "no", "does not delete it"),
    ("ValidationError", 400, "no", "does not delete it"),
    ("AccessDenied", 403, "no", "does not allow"),
    ("Something.NobodyKnows", 418, "It is Tuesday.", "does not delete it"),
    ("", 400, "", "does not delete it"),
]
# Nothing can be deleted while it is so: whose answer it was says nothing of that snapshot.
OF_THE_ACCOUNT = [
    "AuthFailure",
    "Blocked",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "OptInRequired",
    "PendingVerification",
    "RequestExpired",
    "IncompleteSignature",
    "SignatureDoesNotMatch",
]
PASSING = [
    ("RequestLimitExceeded", 503),
    ("Throttling", 400),
    ("InternalError", 500),
    ("InternalFailure", 500),
    ("ServiceUnavailable", 503),
    ("Unavailable", 503),
]


@dataclass
class History:
    """A VM with old snapshots, as the stand-in's: copies of the first that was staged, of points before it."""

    rig: StageRig
    aws: Aws
    store: Store
    runner: asyncio.Runner
    number: int = 0
    point: int = 1

    @property
    def account(self) -> Standin:
        return self.rig.account

    def old(self, count: int = OLD) -> list[str]:
        """So many points are staged, the newest last, which is old as soon as another is; their snapshots' IDs."""
        newest = max(self.account.snapshots.values(), key=lambda each: int(each.tags["warmspare:point"]))
        self.account.snapshots.clear()
        self.account.snapshots[newest.id] = newest
        return [*(self._made(newest) for _ in range(count - 1)), newest.id]

    def _made(self, newest: Snapshot) -> str:
        self.number += 1
        of_point = {"warmspare:point": "1", "warmspare:point-sha256": f"{self.number:064x}", "warmspare:parent": ""}
        made = replace(newest, id=f"snap-{self.number:017x}", tags={**newest.tags, **of_point}, parent="")
        self.account.snapshots[made.id] = made
        return made.id

    def another(self) -> None:
        """A new restore point."""
        scribble(self.rig.disk, random.Random(self.point), pieces=2)
        self.rig.sync()
        self.point += 1

    def staged(self, *, points: int = 1) -> list[Record]:
        """The engine stages the newest point, with --keep; what it said. It must have ended well, and be usable."""
        events: list[Record] = []

        settings = stager.StageSettings(keep=Keep(points))
        state = self.rig.home / "state-of-stage"
        run = stager.Stage(self.store, self.rig.vm, Events(recorder(events)), self.aws, state=state, settings=settings)
        ids = self.runner.run(run.run())
        self.account.settle()
        assert not self.account.breaches, self.account.breaches
        assert all(self.account.state(self.account.snapshots[each]) == "completed" for each in ids)
        [done] = of(events, "stage.done")
        assert done["snapshots"] == ids and done["point"].startswith(f"{self.point}-")
        return events


def of(events: list[Record], name: str) -> list[Record]:
    return [event for event in events if event["event"] == name]


def names(events: list[Record], name: str) -> list[str]:
    return [str(event["snapshot"]) for event in of(events, name)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with pytest.MonkeyPatch.context() as patch:
        account = Standin(starts_s=1000.0)
        with serving(account) as url:
            for name, value in environment(url).items():
                patch.setenv(name, value)
            quick(patch.setattr)
            rig = StageRig(tmp_path_factory.mktemp("kept"), account=account, url=url)
            random_disk(rig.disk, MIB, random.Random(1))
            rig.sync()
            with asyncio.Runner() as runner:  # one client for all: to make one takes longer than to stage
                made = History(rig, Aws(AwsSettings()), open_store(rig.repo), runner)
                made.another()
                made.staged()
                yield made
                runner.run(made.aws.close())
                runner.run(made.store.close())


@pytest.fixture
def history(world: History) -> Iterator[History]:
    """Nothing is refused before and after."""
    yield world
    world.account.faults.refuse = lambda action: None
    for each in (world.account.protected, world.account.locks, world.account.in_use, world.account.binned):
        each.clear()
    world.account.retains = False


@pytest.mark.parametrize(
    ("code", "status", "said", "ours"), OF_THE_SNAPSHOT, ids=[f"{one[0] or 'none'}-{one[3]}" for one in OF_THE_SNAPSHOT]
)
def test_one_some_and_all_are_kept_and_go_when_they_can(
    history: History, code: str, status: int, said: str, ours: str
) -> None:
    account = history.account
    for refused in (1, 2, OLD):
        old = history.old()
        random.Random(refused).shuffle(kept := old[:])
        kept = sorted(kept[:refused])
        account.protected = {each: Refusal(status, code, said.replace("ID", each)) for each in kept}
        history.another()
        for again in (False, True)[: 1 + (refused == OLD)]:  # in each run
            events = history.staged()
            assert sorted(names(events, "stage.kept")) == kept
            for event in of(events, "stage.kept"):
                sentence = said.replace("ID", event["snapshot"])
                assert event["code"] == code and ours in event["message"] and sentence in event["message"], event
                assert not code or code in event["message"]
            assert sorted(names(events, "stage.removed")) == ([] if again else sorted(set(old) - set(kept)))
            [done] = of(events, "stage.done")
            assert (done["kept"], done["removed"]) == (refused, 0 if again else OLD - refused)
            warnings = of(events, "housekeeping.warning")
            if code == "InvalidSnapshot.InUse":
                assert not warnings  # whoever registered the image wants it
            else:
                [warning] = warnings
                assert warning["action"] == "ec2:DeleteSnapshot" and warning["objects"] == kept
                assert warning["right"] == ("ec2:DeleteSnapshot" if "does not allow" in ours else "")
            assert not of(events, "stage.left")
        account.protected = {}
        assert sorted(names(history.staged(), "stage.removed")) == kept
        assert len(account.snapshots) == 1


@pytest.mark.parametrize("code", OF_THE_ACCOUNT)
def test_credentials_that_end_meanwhile_are_told_once(history: History, code: str) -> None:
    """They say nothing of a snapshot: the others are not asked for, but named."""
    old, asked = history.old(), list[str]()
    history.another()

    def refuse(action: str) -> Refusal | None:
        asked.extend([action] if action == "DeleteSnapshot" else [])
        return Refusal(403, code, "no more") if action == "DeleteSnapshot" else None

    history.account.faults.refuse = refuse
    events = history.staged()
    renewed = code in ("RequestExpired",)  # with credentials that are looked for anew
    assert len(asked) == 1 + renewed
    [kept], [left] = of(events, "stage.kept"), of(events, "stage.left")
    assert kept["code"] == code and "no more" in kept["message"]
    assert sorted([kept["snapshot"], *left["snapshots"]]) == sorted(old) and code in left["message"]
    [warning] = of(events, "housekeeping.warning")
    assert warning["count"] == OLD and sorted(warning["objects"]) == sorted(old) and not warning["right"]
    assert of(events, "stage.done")[0]["kept"] == OLD
    history.account.faults.refuse = lambda action: None
    assert sorted(names(history.staged(), "stage.removed")) == sorted(old)


@pytest.mark.parametrize(("code", "status"), PASSING)
def test_what_passes_is_not_waited_for_long(
    history: History, monkeypatch: pytest.MonkeyPatch, code: str, status: int
) -> None:
    """Of one snapshot: the others go. Of all: two are tried, and the rest is named."""
    monkeypatch.setattr(refused_deletion, "PATIENCE_S", 0.1)
    old = history.old()
    history.account.protected = {old[0]: Refusal(status, code, "not now")}
    history.another()
    events = history.staged()
    assert names(events, "stage.kept") == [old[0]] and sorted(names(events, "stage.removed")) == old[1:]
    assert "not now" in of(events, "stage.kept")[0]["message"]
    old = history.old()
    history.account.protected = {each: Refusal(status, code, "not now") for each in old}
    history.another()
    events = history.staged()
    assert names(events, "stage.kept") == old[:2] and of(events, "stage.left")[0]["snapshots"] == old[2:]
    history.account.protected = {}
    assert sorted(names(history.staged(), "stage.removed")) == sorted(old)


def test_many_that_are_refused_cost_a_few_requests_and_hide_no_other(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40, those that can go go, wherever they lie; the rest is named without being asked for."""
    old, asked = history.old(40), list[str]()
    history.another()
    account = history.account
    account.protected = {each: Refusal(400, "OperationNotPermitted", f"{each} is locked") for each in old}
    account.faults.refuse = lambda action: asked.append(action) if action == "DeleteSnapshot" else None
    events = history.staged()
    kept, [left] = names(events, "stage.kept"), of(events, "stage.left")
    assert len(kept) == len(asked) == staged_removal.MOST_REFUSED and sorted(kept + left["snapshots"]) == old
    assert set(old[: staged_removal.OLDEST_FIRST]) <= set(kept), "locks of one length end in the order of age"
    assert of(events, "stage.done")[0]["kept"] == of(events, "housekeeping.warning")[0]["count"] == 40
    for freed in (old[0], old[39]):  # a lock that ended; one behind locks that stay
        del account.protected[freed]
        for _ in range(60):
            if freed in names(history.staged(), "stage.removed"):
                break
        else:
            raise AssertionError("it is never asked for")
    account.protected = {}
    assert len(names(history.staged(), "stage.removed")) == 38


def test_follow_goes_on_and_asks_again_at_each_point(history: History) -> None:
    old = history.old()
    history.account.locks = dict.fromkeys(old, "compliance")
    history.another()
    events: list[Record] = []
    settings = stager.StageSettings(keep=Keep(1))
    state = history.rig.home / "state-of-follow"
    told = Events(recorder(events))
    run = stager.Stage(history.store, history.rig.vm, told, history.aws, state=state, settings=settings)

    async def until(done: int) -> None:
        while len(of(events, "stage.done")) < done:
            assert not task.done()
            await asyncio.sleep(0.02)

    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(run.follow(0.02))

    async def end() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    task = history.runner.run(begin())
    for number in (1, 2):
        history.runner.run(until(number))
        assert sorted(names(events, "stage.kept")) == sorted(old * number)
        history.another()
    history.runner.run(until(3))
    history.account.locks = {}
    history.another()
    history.runner.run(until(4))
    history.runner.run(end())
    assert set(old) <= set(names(events, "stage.removed"))


def test_what_it_says_to_people(history: History) -> None:
    old = history.old(staged_removal.MOST_REFUSED + 2)
    history.account.locks = dict.fromkeys(old[1:], "governance")
    history.account.in_use = {old[0]: "ami-0a"}
    history.another()
    events = history.staged()
    said = [parsed(event).sentence() or "" for event in events]
    lines = "\n".join(said)
    for each in old:
        assert each in lines
    assert "is locked in governance mode and cannot be deleted. [" not in lines
    assert re.search(r"is kept: it is locked \[OperationNotPermitted: The snapshot snap-\w+ is locked in gov", lines)
    assert "--image-id ami-0a`" in lines and "kept, not asked for in this run: AWS refused 16 others" in lines


@remedy(
    "it goes once the lock has ended; in governance mode it can be taken away with `aws ec2 unlock-snapshot "
    "--snapshot-id ID`"
)
def test_a_lock_that_is_taken_away_as_it_says(history: History) -> None:
    old = history.old()
    history.account.locks = dict.fromkeys(old, "governance")
    history.another()
    for event in of(history.staged(), "stage.kept"):
        ask_aws(event["message"], history.rig.url)
    assert sorted(names(history.staged(), "stage.removed")) == sorted(old)


def test_what_was_begun_and_can_not_be_gone_on_with_is_kept(history: History) -> None:
    """A pending snapshot may be locked as well. Neither it nor what is staged meanwhile suffers."""
    history.another()
    history.account.faults.refuse = lambda action: (
        Refusal(403, "AccessDeniedException", "no") if action == "PutSnapshotBlock" else None
    )
    with pytest.raises(AwsError):
        history.staged()
    history.account.faults.refuse = lambda action: None
    [pending] = [one for one in history.account.snapshots.values() if history.account.state(one) == "pending"]
    pending.tags["warmspare:point-sha256"] = "0" * 64  # of another history
    history.account.locks = {pending.id: "compliance"}
    for _ in range(2):
        assert names(history.staged(), "stage.kept") == [pending.id]
    history.account.locks = {}
    assert pending.id in names(history.staged(), "stage.removed") and pending.id not in history.account.snapshots


def test_one_with_a_wrong_block_that_is_kept_is_not_staged(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """EBS keeps other bytes than it acknowledged, once: that snapshot is given up, and can't be deleted yet."""
    monkeypatch.setattr("warmspare.recover.staging.ebs.SEALED_POLLS", 2)
    lied: list[int] = []

    def once(index: int, data: bytes) -> bytes:
        if lied:
            return data
        lied.append(index)
        return bytes([data[0] ^ 1]) + data[1:]

    account = history.account
    account.faults.keeps = once
    account.faults.refuse = lambda action: (
        Refusal(400, "OperationNotPermitted", "It is locked.") if action == "DeleteSnapshot" else None
    )
    history.another()
    before = set(account.snapshots)
    events: list[Record] = []
    with contextlib.suppress(AssertionError):  # the stand-in notes what a sound client never meets
        events = history.staged()
    account.breaches.clear()
    history.account.faults.keeps = lambda index, data: data
    events = history.staged()
    [given_up] = {one for one in set(account.snapshots) - before if account.state(account.snapshots[one]) == "pending"}
    assert given_up in names(events, "stage.kept") and given_up not in of(events, "stage.done")[0]["snapshots"]
    account.faults.refuse = lambda action: None
    assert given_up in names(history.staged(), "stage.removed")


def test_what_somebody_else_deleted_is_gone(history: History) -> None:
    old = history.old()
    history.account.protected = {old[0]: Refusal(400, "InvalidSnapshot.NotFound", "The snapshot does not exist.")}
    history.another()
    events = history.staged()
    assert sorted(names(events, "stage.removed")) == sorted(old) and not of(events, "housekeeping.warning")


def test_the_recycle_bin_takes_them_and_may_give_one_back(history: History) -> None:
    """What lies there is not listed. One that comes back is as old as it was, but no rubbish on its way."""
    old = history.old()
    history.account.retains = True
    history.another()
    assert sorted(names(history.staged(), "stage.removed")) == sorted(history.account.binned) == sorted(old)
    assert not of(history.staged(), "stage.removed")
    history.account._restore({"SnapshotId": old[0]})
    history.another()
    assert not names(history.staged(), "stage.kept") and old[0] in history.account.snapshots
    history.account.snapshots[old[0]].recovering = False
    assert names(history.staged(), "stage.removed")[0] == old[0]


def test_by_command_with_keep(rig: StageRig) -> None:
    """Of three old points beyond --keep one, two and all are locked; each run ends with 0."""
    random_disk(rig.disk, MIB, random.Random(1))
    staged: list[str] = []
    for number in range(5):
        scribble(rig.disk, random.Random(number), pieces=2)
        rig.sync()
        staged += rig.stage("--keep", 9).last("stage.done")["snapshots"]
    rig.account.locks = dict.fromkeys(staged[:2], "governance")
    done = rig.stage("--keep", 2)
    assert [one["snapshot"] for one in done.all("stage.kept")] == staged[:2]
    assert [one["snapshot"] for one in done.all("stage.removed")] == [staged[2]]
    assert set(rig.account.snapshots) == set(staged) - {staged[2]}
    rig.account.locks.pop(staged[1])
    scribble(rig.disk, random.Random(9), pieces=2)
    rig.sync()
    done = rig.stage("--keep", 2)
    assert [one["snapshot"] for one in done.all("stage.kept")] == [staged[0]]
    assert {one["snapshot"] for one in done.all("stage.removed")} == {staged[1], staged[3]}
    rig.demand_same(rig.snapshots(done)[0].id)
    rig.account.locks.clear()
    assert [one["snapshot"] for one in rig.stage("--keep", 2).all("stage.removed")] == [staged[0]]
