"""Lists and restores files of a VM's disks, in a process of its own; owns its limits and what becomes of what it says.

All that reads a guest's bytes is over there: GRUB's readers, the throw-away machine, and who writes what they give into
the folder that was named, of which that process has the descriptor and no path.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from warmspare.errors import RecoverError
from warmspare.recover.disks import programs
from warmspare.recover.disks.confined import ProcessLimits, Say, Spent, confined
from warmspare.recover.disks.open_disk import OpenDisk
from warmspare.recover.disks.programs import Budget, Exceeded
from warmspare.recover.files.file_lines import LINES, FileLine, StoppedLine, TotalLine, VolumeLine
from warmspare.recover.files.file_listing import FileListing, ListingWish
from warmspare.recover.files.file_restoring import FileRestoring, RestoringWish
from warmspare.recover.files.guest_systems import GuestSystems
from warmspare.recover.files.guest_tree import GuestPaths
from warmspare.recover.files.guest_volumes import GuestVolumes
from warmspare.recover.files.restored_folder import RestoredFolder
from warmspare.recover.readiness.answers import Unknown
from warmspare.recover.readiness.guest import partition_tables
from warmspare.recover.readiness.guest.guest_disks import GuestDisks
from warmspare.recover.readiness.readers.appliance import parts
from warmspare.recover.readiness.readers.appliance.appliance_files import Appliance
from warmspare.recover.readiness.readers.appliance.appliance_machine import ApplianceLimits

DAY_S = 24 * 3600
# What is restored may be a whole disk: time is bounded by the day, memory as for a check.
LIMITS = ProcessLimits(memory_bytes=256 << 20, cpu_s=DAY_S, wall_s=float(DAY_S), output_bytes=1 << 20)
SECOND_LIMITS = ApplianceLimits(cpu_s=DAY_S, wall_s=float(DAY_S))
AGAIN = "what was restored is whole; run this again for the rest"
Tell = Callable[[FileLine], None]


@dataclass(frozen=True, slots=True)
class FileLook:
    """disks: the VM's, in its order, the one that boots first. heard: is given what is said, line by line."""

    disks: Sequence[OpenDisk]
    heard: Callable[[FileLine], None]

    async def volumes(self) -> None:
        """Say which volumes there are."""
        await self._done(_volumes, [])

    async def listed(self, wish: ListingWish) -> None:
        """Say what is there."""

        def work(volumes: GuestVolumes, tell: Tell) -> None:
            FileListing(GuestPaths(volumes, GuestSystems(volumes)), wish, tell).run()

        await self._done(work, [])

    async def restored(self, wish: RestoringWish, folder: int, home: str) -> None:
        """Restore files. folder: the descriptor of the folder that they are restored into, called `home`."""

        def work(volumes: GuestVolumes, tell: Tell) -> None:
            paths = GuestPaths(volumes, GuestSystems(volumes))
            FileRestoring(paths, wish, RestoredFolder(folder), home, tell).run()

        await self._done(work, [folder])

    async def _done(self, work: Callable[[GuestVolumes, Tell], None], fds: list[int]) -> None:
        """RecoverError where the process did not come to its end; ConfigError where a program that it needs is not
        installed."""
        for program in ("prlimit", "sfdisk", "blkid", "grub-fstest"):
            programs.found(program)
        appliance = Appliance(parts.found(), self.disks, SECOND_LIMITS)
        stopped: list[str] = []

        def over_there(say: Say) -> None:
            def tell(line: FileLine) -> None:
                say(msgspec.json.encode(line))

            with contextlib.closing(appliance):
                try:
                    volumes = self._opened(appliance)
                    work(volumes, tell)
                    for note in volumes.notes:
                        tell(note)
                except Exceeded as error:
                    tell(StoppedLine(error.what))
                except MemoryError:
                    tell(StoppedLine("it needs more memory than it may take"))
                except Spent as spent:
                    tell(StoppedLine(str(spent)))

        def heard(data: bytes) -> None:
            line = LINES.decode(data)
            if isinstance(line, StoppedLine):
                stopped.append(line.why)
            else:
                self.heard(line)

        every = [*(disk.fd for disk in self.disks), *fds]
        said = await confined(over_there, every, LIMITS, before=appliance.prepare, heard=heard)
        if why := said.ended or "".join(stopped[:1]):
            raise RecoverError(f"the process that reads the guest's files did not come to its end: {why}", hint=AGAIN)

    def _opened(self, appliance: Appliance) -> GuestVolumes:
        budget = Budget(DAY_S, DAY_S)
        tables = [partition_tables.read(disk.fd, disk.capacity_bytes, budget) for disk in self.disks]
        return GuestVolumes(GuestDisks(self.disks, tables, "bios", budget, appliance), appliance)


def _volumes(volumes: GuestVolumes, tell: Tell) -> None:
    """Over there: a line each."""
    machine, systems, count = volumes.machine, GuestSystems(volumes), 0
    for device in machine.devices:
        held, files = device.contents, machine.files(device)
        tell(
            VolumeLine(
                volumes.called(device),
                machine.disks[device.disk].id,
                machine.where(device)[1],
                systems.at_root(device),
                held.kind if held else "",
                held.label if held else "",
                held.uuid if held else "",
                volumes.size_bytes(device),
                files.why if isinstance(files, Unknown) else "",
            )
        )
        count += 1
    tell(TotalLine(0, count, 0))
