"""Reads EBS snapshots through the EBS direct APIs: which blocks they have or differ in, and their bytes, each checked
by its SHA-256; refuses to write, and to hold more than a few blocks.

AWS documents: "Read Amazon EBS snapshots with EBS direct APIs".
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from warmspare.errors import RecoverError, by_hand
from warmspare.outside.paging import Paging
from warmspare.patience import Again
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.client import Aws, goes_on
from warmspare.recover.aws.pace import Pace
from warmspare.recover.blocks.ebs_blocks import EBS_BLOCK_BYTES

GETS_S = 1000.0  # AWS's quota of GetSnapshotBlock, for an account
PAGE_BLOCKS = 10_000
TRIES = 5  # of a block whose bytes do not arrive whole
BODY_S = 60.0


@dataclass(frozen=True, slots=True)
class ListedBlock:
    """A block of a snapshot. token: AWS's, to get it by; "" if the snapshot has not got it and it reads as zeros.
    volume_gib: the snapshot's size."""

    index: int
    token: str
    volume_gib: int


class EbsReader:
    """One account in one region."""

    def __init__(self, aws: Aws, *, gets_s: float = GETS_S) -> None:
        self._aws, self._pace = aws, Pace(gets_s)

    async def blocks(self, snapshot_id: str) -> AsyncIterator[list[ListedBlock]]:
        """All blocks that the snapshot has, ascending, a page at a time. AwsError."""
        token: dict[str, Any] = {}
        paging = Paging()
        while True:
            answer = await self._aws.call(
                "ebs",
                "list_snapshot_blocks",
                about=snapshot_id,
                SnapshotId=snapshot_id,
                MaxResults=PAGE_BLOCKS,
                **token,
            )
            goes_on(paging, answer, snapshot_id)
            gib = int(answer["VolumeSize"])
            _demand_block_size(answer.get("BlockSize"), snapshot_id)
            yield [ListedBlock(int(each["BlockIndex"]), each["BlockToken"], gib) for each in answer.get("Blocks", [])]
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}

    async def changed(self, first: str, second: str) -> AsyncIterator[list[ListedBlock]]:
        """The blocks in which `second` differs from `first`, ascending, a page at a time. AwsError: `unrelated` if the
        two are not of one line."""
        token: dict[str, Any] = {}
        paging = Paging()
        while True:
            answer = await self._aws.call(
                "ebs",
                "list_changed_blocks",
                about=f"{second} after {first}",
                FirstSnapshotId=first,
                SecondSnapshotId=second,
                MaxResults=PAGE_BLOCKS,
                **token,
            )
            goes_on(paging, answer, second)
            gib = int(answer["VolumeSize"])
            _demand_block_size(answer.get("BlockSize"), second)
            yield [
                ListedBlock(int(each["BlockIndex"]), each.get("SecondBlockToken") or "", gib)
                for each in answer.get("ChangedBlocks", [])
            ]
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}

    async def get(self, snapshot_id: str, block: ListedBlock) -> bytes:
        """The 512 KiB of one block. AwsError, also if they do not arrive whole again and again."""
        where = f"block {block.index} of {snapshot_id}"
        for _ in range(TRIES):
            answer = await self._aws.call(
                "ebs",
                "get_snapshot_block",
                about=where,
                gate=self._pace,
                SnapshotId=snapshot_id,
                BlockIndex=block.index,
                BlockToken=block.token,
            )
            try:
                async with asyncio.timeout(BODY_S), answer["BlockData"] as body:
                    data = await _most(body, EBS_BLOCK_BYTES + 1)
            except (aiohttp.ClientError, TimeoutError, OSError):
                continue
            digest = await asyncio.to_thread(_sha256, data)
            if len(data) == EBS_BLOCK_BYTES and base64.b64encode(digest).decode() == answer.get("Checksum"):
                return data
        raise AwsError(
            "a block does not arrive from EBS as its checksum says",
            where=where,
            hint="run again; if it stays, see what is on the path to EBS (a proxy)",
            again=Again.FEW,
        )


async def _most(body: Any, most_bytes: int) -> bytes:
    """A body, but no more of it than so many bytes."""
    data = bytearray()
    while len(data) < most_bytes and (piece := await body.read(most_bytes - len(data))):
        data += piece
    return bytes(data)


def unrelated(error: AwsError) -> bool:
    """Whether two snapshots could not be compared because neither comes from the other."""
    return error.code == "ValidationException" and error.reason in ("UNRELATED_SNAPSHOTS", "INVALID_SNAPSHOT_ID")


def _demand_block_size(size: object, where: str) -> None:
    if size not in (None, EBS_BLOCK_BYTES):
        raise RecoverError(
            f"EBS has blocks of {size} bytes and this program knows {EBS_BLOCK_BYTES}",
            where=where,
            hint=by_hand("use a newer version of warmspare"),
        )


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
