"""What EC2 says of snapshots, from the state of the stand-in for EBS, so that the two can't disagree."""

from __future__ import annotations

import time
from collections import Counter
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import aiohttp
from aiohttp import web

from rigs.aws.ebsparts import Refusal, Snapshot, cut, numbered, signed, xml

ACCOUNT = "123456789012"


class Ec2Half:
    """The actions of EC2; mixed into the stand-in, whose state this is.

    in_use: snapshots of images, by them. locks: snapshots that are locked, and how (`governance`, `compliance`).
    protected: why others are not deleted. retains: whether what is deleted goes to the Recycle Bin. Which code AWS
    gives for a locked snapshot is not documented; that here is one of several that it may be.
    """

    snapshots: dict[str, Snapshot]
    in_use: dict[str, str]
    locks: dict[str, str]
    protected: dict[str, Refusal]
    retains: bool
    binned: dict[str, Snapshot]
    forward_to: str | None
    actions: Counter[str]
    answers: Counter[str]
    _deleted: dict[str, Snapshot]

    async def _ec2(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = dict(parse_qsl(body.decode(), keep_blank_values=True))
        action = asked.get("Action", "")
        known = {
            "DescribeSnapshots": self._describe,
            "DeleteSnapshot": self._delete,
            "CreateTags": self._tag,
            "UnlockSnapshot": self._unlock,
            "RestoreSnapshotFromRecycleBin": self._restore,
        }
        work = known.get(action)
        try:
            signed(request, "ec2")
            if work is None:
                return await self._forward(request, body, action)
            if self._fault(action) == "cut":
                return cut(request)
            inner = work(asked)
            self.actions[f"ec2:{action}"] += 1
            return xml(f"<{action}Response xmlns='http://ec2.amazonaws.com/doc/2016-11-15/'>{inner}</{action}Response>")
        except Refusal as error:
            self.answers[error.code] += 1
            code = "RequestLimitExceeded" if error.code == "RequestThrottledException" else error.code
            status = 503 if code == "RequestLimitExceeded" else error.status
            said = f"<Code>{code}</Code><Message>{escape(error.message)}</Message>"
            return xml(f"<Response><Errors><Error>{said}</Error></Errors><RequestID>1</RequestID></Response>", status)

    async def _forward(self, request: web.Request, body: bytes, action: str) -> web.Response:
        if self.forward_to is None:
            raise Refusal(400, "InvalidAction", f"the stand-in does not know {action}")
        left_out = ("host", "content-length")
        headers = {key: value for key, value in request.headers.items() if key.lower() not in left_out}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.post(self.forward_to, data=body, headers=headers) as answer,
        ):
            self.actions[f"ec2:{action}"] += 1
            kind = answer.headers.get("Content-Type", "text/xml").split(";")[0]
            return web.Response(body=await answer.read(), status=answer.status, content_type=kind)

    def _describe(self, asked: dict[str, str]) -> str:
        now = time.monotonic()
        ids = numbered(asked, "SnapshotId.")
        found = [each for each in self.snapshots.values() if now >= each.seen_from]
        if ids:
            if "MaxResults" in asked:
                raise Refusal(400, "InvalidParameterCombination", "SnapshotId and MaxResults exclude each other")
            missing = [each for each in ids if each not in {snapshot.id for snapshot in found}]
            if missing:
                raise Refusal(400, "InvalidSnapshot.NotFound", f"The snapshot '{missing[0]}' does not exist.")
            found = [each for each in found if each.id in ids]
        for number in range(1, 100):
            name = asked.get(f"Filter.{number}.Name")
            if name is None:
                break
            values = numbered(asked, f"Filter.{number}.Value.")
            if not name.startswith("tag:"):
                raise Refusal(400, "InvalidParameterValue", f"the stand-in does not know the filter {name}")
            found = [each for each in found if each.tags.get(name[4:]) in values]
        found.sort(key=lambda each: each.id)
        most, start = int(asked.get("MaxResults", 1000)), 0
        if not 5 <= most <= 1000:
            raise Refusal(400, "InvalidParameterValue", "MaxResults is out of range")
        if "NextToken" in asked:
            (start,) = self._opened(asked["NextToken"], "INVALID_PAGE_TOKEN", "ec2")
        items = "".join(self._item(each) for each in found[start : start + most])
        more = f"<nextToken>{self._token('ec2', start + most)}</nextToken>" if len(found) > start + most else ""
        return f"<requestId>1</requestId><snapshotSet>{items}</snapshotSet>{more}"

    def _item(self, each: Snapshot) -> str:
        tags = "".join(
            f"<item><key>{escape(key)}</key><value>{escape(value)}</value></item>" for key, value in each.tags.items()
        )
        key = f"<kmsKeyId>{escape(each.kms_key)}</kmsKeyId>" if each.kms_key else ""
        return (
            f"<item><snapshotId>{each.id}</snapshotId><volumeId>vol-ffffffff</volumeId>"
            f"<status>{self.state(each)}</status><startTime>{each.started.isoformat()}</startTime>"
            f"<progress>{100 if self.state(each) == 'completed' else 0}%</progress><ownerId>{ACCOUNT}</ownerId>"
            f"<volumeSize>{each.gib}</volumeSize><description>{escape(each.description)}</description>"
            f"<encrypted>{str(each.encrypted).lower()}</encrypted>{key}<tagSet>{tags}</tagSet></item>"
        )

    def _delete(self, asked: dict[str, str]) -> str:
        snapshot = self.snapshots.get(asked["SnapshotId"])
        if snapshot is None:
            raise Refusal(400, "InvalidSnapshot.NotFound", "The snapshot does not exist.")
        if snapshot.id in self.protected:
            raise self.protected[snapshot.id]
        if snapshot.id in self.in_use:
            said = f"The snapshot {snapshot.id} is currently in use by {self.in_use[snapshot.id]}"
            raise Refusal(400, "InvalidSnapshot.InUse", said)
        if snapshot.id in self.locks:
            said = f"The snapshot {snapshot.id} is locked in {self.locks[snapshot.id]} mode and cannot be deleted."
            raise Refusal(400, "OperationNotPermitted", said)
        if any(each.parent == snapshot.id and self.state(each) == "pending" for each in self.snapshots.values()):
            self._breach("the parent of a pending snapshot was deleted")
        self._deleted[snapshot.id] = self.snapshots.pop(snapshot.id)
        if self.retains:
            self.binned[snapshot.id] = snapshot
        return "<requestId>1</requestId><return>true</return>"

    def _unlock(self, asked: dict[str, str]) -> str:
        snapshot_id = asked["SnapshotId"]
        if self.locks.get(snapshot_id) != "governance":
            raise Refusal(400, "OperationNotPermitted", f"The snapshot {snapshot_id} is not locked in governance mode.")
        del self.locks[snapshot_id]
        return f"<requestId>1</requestId><snapshotId>{snapshot_id}</snapshotId>"

    def _restore(self, asked: dict[str, str]) -> str:
        """With its tags and dates, and `recovering` for as long as a test says."""
        snapshot = self.binned.pop(asked["SnapshotId"], None)
        if snapshot is None:
            raise Refusal(400, "InvalidSnapshot.NotFound", "The snapshot does not exist.")
        self.snapshots[snapshot.id] = self._deleted.pop(snapshot.id)
        snapshot.recovering = True
        return f"<requestId>1</requestId><snapshotId>{snapshot.id}</snapshotId>"

    def _tag(self, asked: dict[str, str]) -> str:
        for snapshot_id in numbered(asked, "ResourceId."):
            if snapshot_id not in self.snapshots:
                raise Refusal(400, "InvalidID", f"The ID '{snapshot_id}' is not valid")
            for number in range(1, 51):
                if f"Tag.{number}.Key" in asked:
                    self.snapshots[snapshot_id].tags[asked[f"Tag.{number}.Key"]] = asked[f"Tag.{number}.Value"]
        return "<requestId>1</requestId><return>true</return>"
