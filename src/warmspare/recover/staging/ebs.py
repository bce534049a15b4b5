"""One EBS snapshot written through the EBS direct APIs: started, filled, completed, awaited; refuses to choose what
goes into it.

AWS documents: "Use EBS direct APIs to access the contents of an EBS snapshot", "Optimize performance for the EBS direct
APIs", "Idempotency for StartSnapshot requests". A put may be repeated; a start is made idempotent by a token that is a
hash of all it says, so whoever starts the same snapshot again, from any machine, gets the same one.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from warmspare.errors import RecoverError, by_hand
from warmspare.patience import Again
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.client import UNSEEN_S, Aws
from warmspare.recover.aws.pace import Pace
from warmspare.recover.aws.refused_deletion import delete
from warmspare.recover.blocks.ebs_blocks import EBS_BLOCK_BYTES
from warmspare.recover.blocks.ebs_window import EbsBlock
from warmspare.recover.staging.staged import COMPLETED, PENDING, StagedDisk

PUTS_S = 1000.0  # AWS's default quota of PutSnapshotBlock, for an account and for a snapshot
STARTS_S = 10.0  # of StartSnapshot and CompleteSnapshot, each
TIMEOUT_MINUTES = 24 * 60  # after which AWS drops a snapshot that nobody writes to
POLL_FIRST_S, POLL_MOST_S = 1.0, 15.0
ECHOES = 5  # puts of a block whose answer names another checksum
SEALED_POLLS = 600  # that one which takes no more blocks is given to turn out completed
COMPLETED_S = 6 * 3600.0  # how long AWS may take to complete one


@dataclass(frozen=True, slots=True)
class Encryption:
    """wanted: whether to ask for it; the account's default may encrypt in any case. kms_key: ARN of the key, "" for the
    account's own."""

    wanted: bool = False
    kms_key: str = ""

    def suits(self, parent: StagedDisk) -> bool:
        """Whether an increment, which inherits its parent's encryption, is encrypted as is wanted."""
        if self.kms_key:
            return parent.encrypted and parent.kms_key == self.kms_key
        return parent.encrypted or not self.wanted


@dataclass(frozen=True, slots=True)
class SnapshotStart:
    """Everything that a snapshot is started with. attempt: counts up when one with the same contents proved dead."""

    volume_gib: int
    tags: Mapping[str, str]
    parent: str
    encryption: Encryption
    attempt: int = 0

    def parameters(self) -> dict[str, Any]:
        """Of StartSnapshot, its token among them."""
        out: dict[str, Any] = {
            "VolumeSize": self.volume_gib,
            "Tags": [{"Key": key, "Value": value} for key, value in sorted(self.tags.items())],
            "Timeout": TIMEOUT_MINUTES,
        }
        if self.parent:
            out["ParentSnapshotId"] = self.parent  # AWS refuses Encrypted beside it: that is the parent's
        elif self.encryption.wanted or self.encryption.kms_key:
            out["Encrypted"] = True
            if self.encryption.kms_key:
                out["KmsKeyArn"] = self.encryption.kms_key
        said = json.dumps([out, self.attempt], sort_keys=True).encode()
        return {**out, "ClientToken": hashlib.sha256(said).hexdigest()}


class SnapshotGoneError(RecoverError):
    """A pending snapshot turned out to be no longer one that can be written to."""


class Ebs:
    """The EBS direct APIs with their quotas. puts_s: blocks a second, at most."""

    def __init__(self, aws: Aws, *, puts_s: float = PUTS_S, poll_s: float = POLL_FIRST_S) -> None:
        self._aws, self._poll_s, self._sealed_s = aws, poll_s, SEALED_POLLS * poll_s
        self.pace = Pace(puts_s)
        self._starts, self._completes = Pace(STARTS_S), Pace(STARTS_S)

    async def start(self, start: SnapshotStart, about: str) -> str:
        """Begin a snapshot, or find the one that was begun with the same words; its ID. AwsError."""
        answer = await self._aws.call("ebs", "start_snapshot", about=about, gate=self._starts, **start.parameters())
        if answer.get("BlockSize", EBS_BLOCK_BYTES) != EBS_BLOCK_BYTES:
            raise RecoverError(
                f"EBS wants blocks of {answer['BlockSize']} bytes and this program knows {EBS_BLOCK_BYTES}",
                where=about,
                hint=by_hand("use a newer version of warmspare"),
            )
        return str(answer["SnapshotId"])

    async def put(self, snapshot_id: str, block: EbsBlock, *, unseen_until: float) -> None:
        """Write one block, its checksum signed and checked at both ends. SnapshotGoneError if the snapshot is not to be
        written to any more; AwsError."""
        checksum = base64.b64encode(block.sha256).decode()
        try:
            for _ in range(ECHOES):
                answer = await self._aws.call(
                    "ebs",
                    "put_snapshot_block",
                    about=snapshot_id,
                    gate=self.pace,
                    unseen_until=unseen_until,
                    SnapshotId=snapshot_id,
                    BlockIndex=block.index,
                    BlockData=block.data,
                    DataLength=EBS_BLOCK_BYTES,
                    Checksum=checksum,
                    ChecksumAlgorithm="SHA256",
                )
                if answer.get("Checksum", checksum) == checksum:
                    return
        except AwsError as error:
            raise _gone(error) from error
        raise AwsError(
            "EBS says again and again that it stored other bytes than were sent",
            where=f"block {block.index} of {snapshot_id}",
            hint="run again: it goes on; if it stays, see what is on the path to EBS (a proxy)",
            again=Again.FEW,
        )

    async def complete(self, snapshot_id: str, count: int, aggregate: bytes, *, unseen_until: float) -> None:
        """Seal it: `count` blocks were written, and that is their aggregate checksum. SnapshotGoneError, AwsError."""
        try:
            await self._aws.call(
                "ebs",
                "complete_snapshot",
                about=snapshot_id,
                gate=self._completes,
                unseen_until=unseen_until,
                SnapshotId=snapshot_id,
                ChangedBlocksCount=count,
                Checksum=base64.b64encode(aggregate).decode(),
                ChecksumAlgorithm="SHA256",
                ChecksumAggregationMethod="LINEAR",
            )
        except AwsError as error:
            raise _gone(error) from error

    async def state(self, snapshot_id: str, *, unseen_until: float = 0.0) -> str:
        """What AWS says of it: pending, completed, error; "" if it is not there. AwsError."""
        try:
            answer = await self._aws.call(
                "ec2", "describe_snapshots", about=snapshot_id, unseen_until=unseen_until, SnapshotIds=[snapshot_id]
            )
        except AwsError as error:
            if error.missing:
                return ""
            raise
        return str(answer["Snapshots"][0]["State"]) if answer.get("Snapshots") else ""

    async def completed(self, snapshot_id: str, *, unseen_until: float) -> None:
        """Return once it is `completed`; before that it is no recovery point. SnapshotGoneError, AwsError."""
        pause_s, deadline = self._poll_s, time.monotonic() + COMPLETED_S
        while (state := await self.state(snapshot_id, unseen_until=unseen_until)) != COMPLETED:
            if state != PENDING:
                raise SnapshotGoneError(
                    f"EBS did not complete the snapshot: it is {state or 'gone'}",
                    where=snapshot_id,
                    hint="run again, it begins anew",
                    retryable=True,
                )
            if time.monotonic() > deadline:
                raise RecoverError(
                    "EBS has not completed the snapshot for hours",
                    where=snapshot_id,
                    hint="run again to wait on, and ask AWS",
                    retryable=True,
                )
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, POLL_MOST_S)

    async def sealed(self, snapshot_id: str) -> bool:
        """Whether a snapshot that takes no more becomes `completed`: it was sealed before. AwsError."""
        deadline = time.monotonic() + self._sealed_s
        while True:
            state = await self.state(snapshot_id)
            if state != PENDING or time.monotonic() > deadline:
                return state == COMPLETED
            await asyncio.sleep(min(self._poll_s * 5, POLL_MOST_S))

    async def remove(self, snapshot_id: str) -> AwsError | None:
        """Delete it; None once it is gone, else why AWS keeps it. AwsError if nothing can be deleted now."""
        return await delete(self._aws, "delete_snapshot", snapshot_id, SnapshotId=snapshot_id)


def unseen_until() -> float:
    """Until when a snapshot that was started now may be unknown to other requests."""
    return time.monotonic() + UNSEEN_S


def _gone(error: AwsError) -> RecoverError:
    """The error to raise for a failed write: a snapshot that ended, or is not there, has a class of its own."""
    lasting = error.code == "ValidationException" and error.reason not in ("INVALID_BLOCK", "CONFLICTING_BLOCK_UPDATE")
    if error.missing or lasting:
        return SnapshotGoneError(error.what, where=error.where, hint="run again, it begins anew", retryable=True)
    return error
