"""Files of a guest: what the file systems of a restore point hold, and files and folders out of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from msgspec.structs import replace

from warmspare.engine.request import Request, RunContext
from warmspare.engine.wiring.readable_disks import DisksChoice
from warmspare.errors import ConfigError, IntegrityError, NoRoomError
from warmspare.model.named_moment import moment_text
from warmspare.observe.events import Events
from warmspare.observe.kinds.looking_events import (
    EntryListed,
    FileLeft,
    FileNoted,
    FileRestored,
    FilesListed,
    FilesRestored,
    VolumeListed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from warmspare.recover.disks.open_disk import OpenDisk
    from warmspare.recover.files.file_lines import FileLine, FullLine, TotalLine, VolumeLine
    from warmspare.recover.files.point_files import PointFiles

NOT_ALL = 7


class FilesListRequest(Request[FilesListed], frozen=True, kw_only=True):
    """Say what the file systems of a VM's disks hold: without paths, which volumes there are.

    disks: which, and at which restore point. paths: `VOLUME:/path`, `/path` of the one Linux there, `C:/path` of the
    one Windows. recursive: with all that is below a folder. IntegrityError, after all was told, where blocks of what is
    missing do not verify.
    """

    progress = ("read",)

    disks: DisksChoice
    paths: tuple[str, ...] = ()
    recursive: bool = False

    def located(self, run: RunContext) -> FilesListRequest:
        return replace(self, disks=self.disks.located(run))

    async def perform(self, run: RunContext) -> FilesListed:
        from warmspare.engine.wiring.readable_disks import opened_disks
        from warmspare.recover.files.file_listing import ListingWish
        from warmspare.recover.files.file_look import FileLook
        from warmspare.recover.files.point_files import PointFiles

        if self.recursive and not self.paths:
            raise ConfigError("--recursive is of a path, and none is given", hint="give one, such as /")
        async with opened_disks(self.disks, run) as point:
            record = point.record.record
            teller, files = _Teller(run.events, record.vm_id), PointFiles(point, run.events, run.meter)

            async def look(disks: Sequence[OpenDisk]) -> None:
                there = FileLook(disks, teller.heard)
                await (there.listed(ListingWish(self.paths, self.recursive)) if self.paths else there.volumes())

            await files.read(look)
            done = FilesListed(
                vm=record.vm_id,
                vm_name=record.vm_name,
                point=point.record.id.label,
                files=teller.total.files,
                folders=teller.total.folders,
                bytes=teller.total.bytes,
                failed=teller.failed,
                bytes_fetched=point.fetched.read_bytes,
            )
        run.events.emit(done)
        _demand_read(files, done.point, done.failed or not self.paths)
        return done

    def exit_code(self, result: FilesListed) -> int:
        return NOT_ALL if result.failed else 0


class FilesGetRequest(Request[FilesRestored], frozen=True, kw_only=True):
    """Restore files and folders of a VM's disks into a folder of this host.

    disks, paths: as of `FilesListRequest`, at least one path. to: the folder, made where it is not there. force:
    replace files that are there. IntegrityError, after all was told, where blocks of what is missing do not verify;
    NoRoomError where the host's file system takes no more.
    """

    progress = ("read",)

    disks: DisksChoice
    paths: tuple[str, ...]
    to: Path
    force: bool = False

    def located(self, run: RunContext) -> FilesGetRequest:
        return replace(self, disks=self.disks.located(run))

    async def perform(self, run: RunContext) -> FilesRestored:
        from warmspare.engine.wiring.readable_disks import opened_disks
        from warmspare.recover.files.file_look import FileLook
        from warmspare.recover.files.file_restoring import RestoringWish
        from warmspare.recover.files.point_files import PointFiles
        from warmspare.recover.files.restore_target import restore_target

        if not self.paths:
            raise ConfigError(
                "nothing says which files to restore", hint="give a path; `warmspare files ls` shows them"
            )
        with restore_target(self.to) as folder:
            async with opened_disks(self.disks, run) as point:
                record = point.record.record
                teller, files = _Teller(run.events, record.vm_id), PointFiles(point, run.events, run.meter)
                wish = RestoringWish(self.paths, self.force)
                await files.read(lambda disks: FileLook(disks, teller.heard).restored(wish, folder, str(self.to)))
                if teller.full is not None:
                    raise NoRoomError(
                        f"the folder takes no more: {teller.full.why}",
                        where=str(self.to),
                        hint="free some space and run this again: what is whole stays",
                    )
                total = teller.total
                done = FilesRestored(
                    vm=record.vm_id,
                    vm_name=record.vm_name,
                    point=point.record.id.label,
                    to=str(self.to),
                    files=total.files,
                    folders=total.folders,
                    links=total.links,
                    bytes=total.bytes,
                    there=total.there,
                    left=teller.left,
                    failed=teller.failed,
                    bytes_fetched=point.fetched.read_bytes,
                    blocks_verified=sum(blocks.verified for blocks in point.blocks),
                )
        run.events.emit(done)
        _demand_read(files, done.point, done.failed)
        return done

    def exit_code(self, result: FilesRestored) -> int:
        return NOT_ALL if result.failed else 0


class _Teller:
    """From what the process says that reads the guest, to events. failed, left: how many were not restored, or not
    listed. total: its end, which it says last of all that counts. full: why it ended early."""

    def __init__(self, events: Events, vm: str) -> None:
        from warmspare.recover.files.file_lines import TotalLine

        self._events, self._vm = events, vm
        self.failed = self.left = 0
        self.total: TotalLine = TotalLine(0, 0, 0)
        self.full: FullLine | None = None

    def heard(self, line: FileLine) -> None:
        from warmspare.recover.files.file_lines import (
            EntryLine,
            FullLine,
            LeftLine,
            NoteLine,
            RestoredLine,
            TotalLine,
            VolumeLine,
        )

        match line:
            case VolumeLine():
                self._events.emit(_volume(self._vm, line))
            case EntryLine(path, kind, size_bytes, modified_s, mode, target):
                self._events.emit(
                    EntryListed(
                        path=path,
                        kind=cast(Literal["folder", "file", "link", "other"], kind),
                        bytes=size_bytes,
                        modified=_moment(modified_s),
                        mode=None if mode is None else f"{mode:04o}",
                        target=target or None,
                    )
                )
            case RestoredLine(path, to, size_bytes, there, target):
                event = FileRestored(path=path, to=to, bytes=size_bytes, there=there, target=target or None)
                self._events.emit(event)
            case LeftLine(path, why, failed):
                self.failed += failed
                self.left += not failed
                self._events.emit(FileLeft(path=path, message=why, failed=failed))
            case NoteLine(path, text):
                self._events.emit(FileNoted(path=path, message=text))
            case FullLine():
                self.full = line
            case TotalLine():
                self.total = line


def _volume(vm: str, line: VolumeLine) -> VolumeListed:
    return VolumeListed(
        vm=vm,
        volume=line.name,
        disk=line.disk,
        place=line.place,
        system=line.system or None,
        filesystem=line.filesystem or None,
        label=line.label,
        uuid=line.uuid,
        bytes=line.bytes,
        why=line.why or None,
    )


def _moment(seconds: int | None) -> str | None:
    """RFC 3339; None where no clock says such a time."""
    if seconds is None:
        return None
    try:
        return moment_text(seconds)
    except OverflowError:
        return None


def _demand_read(files: PointFiles, point: str, failed: int) -> None:
    """IntegrityError where blocks did not verify, and something is missing for that."""
    if files.damage is not None and failed:
        raise IntegrityError(
            f"not all that was asked for can be read: {files.damage.what}",
            where=f"restore point {point}",
            hint=files.damage.hint,
        )
