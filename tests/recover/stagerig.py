"""A world for staging: that of rig.py, an AWS account that the stand-in plays, and proofs of what is in it."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from botocore.config import Config
from botocore.session import get_session

from rig import Outcome, Rig, command, overwrite
from rigs.aws.ebsparts import BLOCK, Snapshot
from rigs.aws.ebsstandin import Standin, environment
from rigs.host import forked
from rigs.kills.campaign import VICTIM
from rigs.paths import as_here
from warmspare.format.manifest import ManifestReader

EACH = BLOCK >> 16  # of our blocks in one of EBS


@dataclass
class StageRig(Rig):
    """account: the stand-in; url: where it is served."""

    account: Standin = field(default_factory=Standin)
    url: str = ""

    def arguments(self, *more: object) -> list[str]:
        state = self.home / "stage-state"
        return [str(each) for each in ("stage", "--vm", self.vm, "--repo", self.repo, "--state", state, *more)]

    def stage(self, *more: object, code: int = 0) -> Outcome:
        """Run the command; the account must have seen nothing that a correct client never does."""
        outcome = command(*self.arguments(*more))
        assert outcome.code == code, outcome
        self.account.settle()
        assert not self.account.breaches, self.account.breaches
        return outcome

    def victim(self, act: str, *how: object) -> int:
        """The same in a process of its own that is killed at a moment; its return code, -9 if it was."""
        environ = as_here() | environment(self.url)
        done = forked.run(VICTIM, act, *how, *self.arguments(), "--json", env=environ, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr
        self.account.settle()
        return done.returncode

    def moments(self) -> list[str]:
        """Every moment that a run to the end meets."""
        out = self.home / "moments"
        assert self.victim("list", out) == 0
        return out.read_text().splitlines()

    # what is staged

    def snapshots(self, outcome: Outcome) -> list[Snapshot]:
        return [self.account.snapshots[each] for each in outcome.last("stage.done")["snapshots"]]

    def demand_same(self, snapshot_id: str, disk: Path | None = None) -> None:
        """The snapshot, read back block by block through the API as a restore would, is the disk byte for byte, and
        zeros beyond its end."""
        found = read_back(self.url, snapshot_id)
        source, size = disk or self.disk, (disk or self.disk).stat().st_size
        gib = self.account.snapshots[snapshot_id].gib
        assert (gib - 1) << 30 < size <= gib << 30
        with source.open("rb") as file:
            for index in sorted(data_blocks(source) | found.keys()):
                file.seek(index * BLOCK)
                expected = file.read(BLOCK).ljust(BLOCK, b"\0")
                assert found.get(index, bytes(BLOCK)) == expected, f"block {index} of {snapshot_id}"

    def touched(self, *sequences: int, disk: int = 0) -> set[int]:
        """The EBS blocks that the manifests of these restore points name, read from the repository's files."""
        out: set[int] = set()
        for sequence in sequences:
            data = (Path(self.repo) / self.point(sequence).disks[disk].manifest.key).read_bytes()
            reader = ManifestReader(lambda at, size, data=data: data[at : at + size], len(data), "manifest")
            for chunk in reader.chunks():
                out |= set((chunk.records.block // EACH).tolist())
                for start, count in chunk.zeros.pairs():
                    out |= set((np.arange(start, start + count) // EACH).tolist())
        return out

    def damage(self, path: Path, offset: int) -> bytes:
        """Flip a byte; what was there before, to put it back."""
        before = path.read_bytes()
        data = bytearray(before)
        data[offset] ^= 0x20
        overwrite(path, bytes(data))
        return before


def client(url: str, service: str = "ebs", *, attempts: int = 8, validate: bool = True) -> Any:
    """botocore's. validate: whether it refuses by itself what the service would."""
    return get_session().create_client(
        service,
        endpoint_url=url,
        region_name="eu-central-1",
        aws_access_key_id="reader",
        aws_secret_access_key="reader",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            parameter_validation=validate,
        ),
    )


def read_back(url: str, snapshot_id: str) -> dict[int, bytes]:
    """Every block that ListSnapshotBlocks names, by GetSnapshotBlock, its checksum checked."""
    api, found, token = client(url), {}, {}
    while True:
        page = api.list_snapshot_blocks(SnapshotId=snapshot_id, MaxResults=100, **token)
        for row in page["Blocks"]:
            got = api.get_snapshot_block(
                SnapshotId=snapshot_id, BlockIndex=row["BlockIndex"], BlockToken=row["BlockToken"]
            )
            data = got["BlockData"].read()
            assert got["Checksum"] == base64.b64encode(hashlib.sha256(data).digest()).decode()
            found[row["BlockIndex"]] = data
        if not page.get("NextToken"):
            return found
        token = {"NextToken": page["NextToken"]}


def data_blocks(path: Path) -> set[int]:
    """The EBS blocks in which a sparse file has data."""
    out: set[int] = set()
    with path.open("rb") as file:
        at, size = 0, path.stat().st_size
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            out |= set(range(start // BLOCK, (at - 1) // BLOCK + 1))
    return out


def elsewhere(*words: object) -> None:
    """Run a command in a process of its own, to its end."""
    program = [sys.executable, "-m", "warmspare", *map(str, words), "--json"]
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL, env=as_here())
