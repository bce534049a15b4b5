"""Looking into restore points: what differs between two of them, and their disks as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from warmspare.engine.request import Request, RunContext
from warmspare.engine.wiring.readable_disks import DisksChoice
from warmspare.engine.wiring.usual_repository import RepositoryRequest
from warmspare.observe.kinds.looking_events import DiffDone, MountDone

if TYPE_CHECKING:
    from warmspare.diff.point_diff import PointDiff

PAGE = "writing the page of what differs"


class PointDiffRequest(RepositoryRequest[DiffDone], frozen=True, kw_only=True):
    """Say what differs of a VM's disks between two of its restore points, from the first to the second.

    vm: its ID or name. first, second: restore points by number, label, `latest` or time, in either order. exact: fetch
    the blocks that differ at both, and compare their pages. html: a page for a browser, with a map of each disk, too.
    """

    progress = ("read",)

    vm: str
    first: str
    second: str
    exact: bool = False
    html: Path | None = None

    async def perform(self, run: RunContext) -> DiffDone:
        from warmspare.diff.diff_page import MARK, render
        from warmspare.diff.point_diff import PointComparison
        from warmspare.repository.chain import open_repository
        from warmspare.repository.vm_lookup import VmNames
        from warmspare.state.user_files import demand_replaceable, replace_output
        from warmspare.store.around.counting import CountingStore

        if self.html is not None:
            demand_replaceable(self.html, MARK, PAGE)
        store = self.repository.open(run.retrying)
        try:
            counted = CountingStore(store)
            repository = await open_repository(counted)
            names = VmNames(repository)
            points = [await names.point(self.vm, one) for one in (self.first, self.second)]
            scratch = run.host.folder("points")
            diff = await PointComparison(repository, scratch, run.meter, exact=self.exact).run(*points)
        finally:
            await store.close()
        if self.html is not None:
            replace_output(self.html, render(diff, store.uri).encode(), MARK, PAGE)
        for disk in diff.disks:
            run.events.emit(disk.event(diff.vm))
        done = _done(diff, counted.read_bytes, self.html)
        run.events.emit(done)
        return done


def _done(diff: PointDiff, fetched_bytes: int, html: Path | None) -> DiffDone:
    disks = diff.disks
    return DiffDone(
        vm=diff.vm,
        vm_name=diff.second.record.vm_name,
        first=diff.first.id.label,
        first_created=diff.first.record.created,
        second=diff.second.id.label,
        second_created=diff.second.record.created,
        same=all(disk.alike for disk in disks),
        disks=len(disks),
        blocks=sum(disk.blocks for disk in disks),
        bytes_blocks=sum(disk.block_total_bytes for disk in disks),
        pages=sum(disk.pages for disk in disks),
        bytes_pages=sum(disk.page_total_bytes for disk in disks),
        pages_exact=all(disk.pages_exact for disk in disks),
        bytes_fetched=fetched_bytes,
        html=str(html) if html else None,
    )


class MountRequest(Request[MountDone], frozen=True, kw_only=True):
    """Show the disks of a restore point, or of a replica, and their partitions as read-only files in a folder, until
    the run is cancelled or somebody unmounts it. disks: which. folder: an empty one of this user's."""

    disks: DisksChoice
    folder: Path

    def located(self, run: RunContext) -> MountRequest:
        return replace(self, disks=self.disks.located(run))

    async def perform(self, run: RunContext) -> MountDone:
        from warmspare.engine.wiring.readable_disks import opened_disks
        from warmspare.recover.mounts.mount_folder import mountable
        from warmspare.recover.mounts.point_mount import MountPlace, PointMount

        self.disks.demand()
        place = MountPlace(mountable(self.folder), self.disks.replica)
        async with opened_disks(self.disks, run) as point:
            return await PointMount(point, place, run.events).run()

    def apart(self) -> str:
        return "a mount goes on until it is ended"
