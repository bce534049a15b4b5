"""Retention records, descents and folded manifests of a repository in a directory, changed by hands that may write."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import crc32c
from msgspec import structs

from rig import Rig
from warmspare.format.chunk import Chunk
from warmspare.format.manifest import ManifestReader, ManifestWriter
from warmspare.format.restore_point import ObjectRef
from warmspare.format.retained import dropped_records, retention
from warmspare.format.retained.retention import Fold, Retention


class Forger:
    """Of the newest retention record of a rig's VM."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.path = sorted((rig.root / "retention").glob("*.json"))[-1]

    @property
    def key(self) -> str:
        return str(self.path.relative_to(self._rig.repo))

    @property
    def record(self) -> Retention:
        return retention.decode(self.path.read_bytes(), "test")

    def file(self, ref: ObjectRef) -> Path:
        return Path(self._rig.repo) / ref.key

    def say(self, **fields: object) -> None:
        """Another record in its place."""
        self.path.write_bytes(retention.encode(structs.replace(self.record, **fields)))

    def refold(self, number: int, /, **fields: object) -> None:
        """Say something else of the fold that leads there."""
        self.say(
            folds=[
                structs.replace(fold, **fields) if fold.target.sequence == number else fold
                for fold in self.record.folds
            ]
        )

    def fold(self, target: int) -> Fold:
        found = self.record.of_target(target)
        assert found
        return found

    def put(self, key: str, data: bytes) -> ObjectRef:
        path = Path(self._rig.repo) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return ObjectRef(key, len(data), hashlib.sha256(data).hexdigest(), crc32c.crc32c(data))

    def dropped(self, target: int) -> list[bytes]:
        """The records that a fold stands for."""
        fold, found = self.fold(target), []
        before = fold.base.sha256 if fold.base else None
        for part in fold.descent:
            found += dropped_records.decode(self.file(part).read_bytes(), before, "test")[1]
            before = hashlib.sha256(found[-1]).hexdigest()
        return found

    def redescend(self, target: int, stored: list[bytes], first: int = 0) -> str:
        """Have a fold name a descent of these records; its key."""
        fold = self.fold(target)
        ref = self.put(fold.descent[0].key, dropped_records.encode(first or fold.after + 1, stored))
        self.refold(target, descent=[ref])
        return ref.key

    def rewrite(self, target: int, change: Callable[[Chunk], Chunk]) -> str:
        """Have a fold name a manifest whose chunks were changed; its key."""
        fold = self.fold(target)
        [disk] = fold.disks
        data = self.file(disk.manifest).read_bytes()
        reader = ManifestReader(lambda at, size: data[at : at + size], len(data), "test")
        written: list[bytes] = []
        writer = ManifestWriter(reader.header, written.append)
        for chunk in reader.chunks():
            writer.add(change(chunk))
        writer.finish(list(reader.packs))
        ref = self.put(disk.manifest.key, b"".join(written))
        self.refold(target, disks=[structs.replace(disk, manifest=ref)])
        return ref.key
