"""What a run leaves behind if it dies: its identity, manifests, page hashes, and the record once all was read.

Owns the run's directory. The objects of a run lie under its own keys, so the run's ID, durable before the
first byte is sent, is all that the next run needs to find and remove what was never published.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from warmspare.errors import StoreError
from warmspare.model.ids import DiskId, RunId, disk_key
from warmspare.observe.events import Events
from warmspare.outside.records import Line, SequenceOrNone, Sha256
from warmspare.outside.regular_files import open_file
from warmspare.state.local_files import (
    STATE_DIRECTORY,
    local_io,
    out_of_the_way,
    read_record,
    sync_directory,
    write_record,
)
from warmspare.sync.journal.page_log import PageLog


class RunRecord(msgspec.Struct, frozen=True):
    """run: 32 hex digits. sequence and parent: the restore point it means to publish (0: none), and on top of what.
    spool: the directory that its packs go through, "" for none."""

    run: RunId
    sequence: SequenceOrNone
    parent: Sha256 | None
    spool: Line = ""


class Sealed(msgspec.Struct, frozen=True):
    """The record of a restore point that only has to be sent any more: the very bytes to publish."""

    point: bytes


class Journal:
    """The journal under a VM's state directory."""

    def __init__(self, directory: Path, events: Events) -> None:
        self.directory, self._events = directory, events
        self._record_path = directory / "run.json"
        self._sealed_path = directory / "sealed.json"

    def left_over(self) -> RunRecord | None:
        """The run that did not finish, if one did not."""
        return read_record(self._record_path, RunRecord, STATE_DIRECTORY, self._events)

    def begin(self, record: RunRecord) -> None:
        """Durable before anything of the run reaches the store; takes the place of the last run's record, which was
        taken note of. Nothing of that one may be met here again."""
        with local_io(STATE_DIRECTORY, self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._clear_files()
        except StoreError:
            out_of_the_way(self.directory, STATE_DIRECTORY)
            with local_io(STATE_DIRECTORY, self.directory):
                self.directory.mkdir()
        write_record(self._record_path, record, STATE_DIRECTORY)

    def seal(self, point: bytes) -> None:
        """All was read and stands in this journal: from here on the run can be finished without its machine."""
        write_record(self._sealed_path, Sealed(point), STATE_DIRECTORY)

    def sealed(self) -> bytes | None:
        """The record of the restore point, if the run came so far."""
        found = read_record(self._sealed_path, Sealed, STATE_DIRECTORY, self._events)
        return found.point if found else None

    def page_log(self, index: int) -> PageLog:
        return PageLog(self.page_log_path(index))

    def page_log_path(self, index: int) -> Path:
        return self.directory / f"{index:03d}.pages"

    def sent_path(self, disk_id: DiskId) -> Path:
        """The log of what is sent of a disk: by its ID, since another run may have it in another place."""
        return self.directory / f"{disk_key(disk_id)}.sent"

    def set_aside(self, shelf: Path) -> None:
        """Keep what the run that died has sent for those that come, on a shelf. `clear` forgets the run then."""
        with local_io(STATE_DIRECTORY, shelf):
            number = max((int(path.name) for path in shelf.glob("[0-9]*")), default=0) + 1
            place = shelf / f"{number:06d}"
            if any(self.directory.glob("*.packs")):
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                for path in [*self.directory.glob("*.sent"), *self.directory.glob("*.packs")]:
                    path.rename(place / path.name)
                with open_file(self._record_path) as old, (place / self._record_path.name).open("xb") as new:
                    shutil.copyfileobj(old, new)  # last: without it the rest is nothing
                sync_directory(place)
                sync_directory(shelf)

    def manifest_path(self, index: int) -> Path:
        return self.directory / f"{index:03d}.manifest"

    def table_path(self, index: int) -> Path:
        """Of a checkpoint of the hash table."""
        return self.directory / f"{index:03d}.table"

    def clear(self) -> None:
        """Forget the run: the record last, so that a crash inside leaves it to be cleared again."""
        if not self.directory.exists():
            return
        self._clear_files()
        with local_io(STATE_DIRECTORY, self.directory):
            self._record_path.unlink(missing_ok=True)
            sync_directory(self.directory)

    def _clear_files(self) -> None:
        with local_io(STATE_DIRECTORY, self.directory):
            for path in self.directory.iterdir():
                if path != self._record_path:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
