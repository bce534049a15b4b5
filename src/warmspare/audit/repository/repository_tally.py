"""What an audit of a repository gathers: figures, notes, maps of disks, findings; owns the report that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from warmspare.audit.reports import report as reports
from warmspare.audit.reports.collect import Findings
from warmspare.audit.reports.report import SOUND, WRONG, ZERO, AuditReport, DiskResult, MapBuilder
from warmspare.audit.repository.deep.scan import ScannedDisk
from warmspare.audit.repository.descent import Chain
from warmspare.audit.repository.losses import Losses
from warmspare.audit.repository.object_checks import ObjectChecks
from warmspare.audit.repository.scratch import Scratch
from warmspare.audit.repository.seen import KnownRepository, figures
from warmspare.audit.repository.walk import PointWalk
from warmspare.format.restore_point import Disk
from warmspare.model.ids import DiskId, PointId, VmId
from warmspare.model.units import BLOCK_BYTES, block_count
from warmspare.repository.chain import now_text
from warmspare.state.report_chain import host, software
from warmspare.store.contract import Store


@dataclass(slots=True)
class Sums:
    """Figures of all VMs."""

    vms: int = 0
    points: int = 0
    manifests: int = 0
    packs: int = 0
    tables: int = 0
    pack_bytes: int = 0
    states: int = 0
    unsure: int = 0
    orphans: int = 0
    orphan_bytes: int = 0
    lost_blocks: int = 0
    marked: int = 0
    heads: dict[VmId, PointId] = field(default_factory=dict)


class RepositoryTally:
    """wanted: the VM that was asked for, None for all. deep: whether blocks are read. known: what was seen before."""

    def __init__(self, wanted: str | None, known: KnownRepository, *, deep: bool) -> None:
        self._wanted, self._known, self._deep = wanted, known, deep
        self.findings = Findings()
        self.sums = Sums()
        self.notes: list[str] = []
        self.disks: list[DiskResult] = []
        self.resumed = self.record_sha256 = ""

    def say(self, objects: ObjectChecks) -> None:
        """What could not be seen of objects."""
        if objects.unsummed and not self._deep:
            self.notes.append(
                f"the store keeps no checksum of {objects.unsummed} of {objects.looked} objects: a change of a pack "
                "that keeps its length and its header is not seen without --deep"
            )
        elif not self._deep:
            self.notes.append(
                "packs were judged by the length and the checksum that the store states, not by their bytes: --deep "
                "reads them"
            )

    def report(
        self, store: Store, began: str, seconds: float, identity: str, fetched: ObjectChecks, scratch: Scratch
    ) -> AuditReport:
        """All of it. fetched: who fetched objects. scratch: what was used."""
        sums = self.sums
        numbers: dict[str, int | float | str] = {
            "VMs": sums.vms,
            "restore points": sums.points,
            "manifests": sums.manifests,
            "packs": sums.packs,
            "checkpoints": sums.tables,
            "bytes in packs": sums.pack_bytes,
            "objects without a checksum": fetched.unsummed,
            "orphans": sums.orphans,
            "orphan bytes": sums.orphan_bytes,
            "lost blocks of newest points": sums.lost_blocks,
            "blocks marked": sums.marked,
            "scratch bytes": scratch.peak_bytes,
        }
        if self._deep:
            numbers |= {"block states verified": sums.states, "block states not verifiable": sums.unsure}
        if self._known.sources:
            numbers["compared with"] = ", ".join(self._known.sources)
        one = sums.heads if self._wanted is not None else {}
        result: Literal["clean", "findings"] = "clean" if self.findings.clean else "findings"
        judged = sum(disk.judged for disk in self.disks)
        blocks = sum(disk.blocks for disk in self.disks)
        return AuditReport(
            format=reports.FORMAT,
            number=0,
            previous="",
            kind="repository",
            software=software(),
            host=host(),
            vm=next(iter(one), self._wanted or ""),
            vm_name="",
            repository=store.uri,
            repository_id=identity,
            subject=store.uri,
            mode="every block of every restore point" if self._deep else "what the store tells, and every manifest",
            point=None,
            began=began,
            ended=now_text(),
            seconds=round(seconds, 3),
            coverage_percent=round(100.0 * judged / blocks, 2) if blocks else 0.0,
            bytes_read=fetched.fetched_bytes,
            bytes_fetched=fetched.fetched_bytes,
            result=result,
            disks=self.disks,
            findings=self.findings.listed,
            findings_left_out=self.findings.left_out,
            resumed=self.resumed,
            figures={**numbers, **figures(self.record_sha256, sums.heads)},
            notes=self.notes,
        )

    def draw(self, walk: PointWalk, chain: Chain, images: dict[DiskId, ScannedDisk], seconds: float) -> None:
        """What each disk of the newest point looks like. seconds: that reading took so far."""
        for disk in walk.head.disks if walk.head else []:
            image = images.get(disk.id)
            if image is None or image.stopped or image.capacity_bytes != disk.capacity_bytes:
                continue
            blocks = block_count(disk.capacity_bytes)
            drawn = MapBuilder(disk.capacity_bytes)
            drawn.add_run(ZERO, 0, blocks)
            for found, _ in image.entries.filled(0, blocks):
                drawn.add(ZERO, found, -1)
                drawn.add(SOUND, found)
            for start, count in image.losses.runs(blocks).pairs():
                drawn.add_run(SOUND, start, count, -1)
                drawn.add_run(WRONG, start, count)
            name = disk.name if self._wanted or self.sums.vms == 1 else f"{chain.vm}: {disk.name}"
            result = reports.disk_result(
                drawn,
                id=disk.id,
                name=name,
                path="",
                capacity_bytes=disk.capacity_bytes,
                root=disk.root,
                bytes_read=drawn.total(SOUND) * BLOCK_BYTES,
                seconds=seconds,
            )
            self.disks.append(result)

    def tell_losses(self, chain: Chain, disk: Disk, losses: Losses, broken: str) -> None:
        """Which points a disk can't be restored in full at. broken: the point from which on nothing tells."""
        doubt = "" if self._deep else " where it uses what is lost or damaged"
        for first, last in losses.spans:
            whole = "restore point" if first == last else "restore points"
            self.notes.append(
                f"{chain.vm}: disk {disk.id} can't be restored in full at {whole} "
                f"{self._label(chain, first)}" + ("" if first == last else f" to {self._label(chain, last)}") + doubt
            )
        if broken:
            self.notes.append(
                f"{chain.vm}: from restore point {broken} on the repository does not tell what disk {disk.id} holds; "
                "no sync can mend that: put the missing object back, or sync to a new repository"
            )

    @staticmethod
    def _label(chain: Chain, sequence: int) -> str:
        link = chain.links.get(sequence)
        return link.label if link else str(sequence)
