"""Blocks of a disk as a replica has them, for who holds each against its hash; refuses to heal: an audit does that."""

from __future__ import annotations

from pathlib import Path

from warmspare.errors import IntegrityError
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.state.local_files import local_io
from warmspare.state.replica_record import REPLICA
from warmspare.threads import Threads


class ReplicaGiver:
    """fd: of the replica's disk, which stands still. path: for messages."""

    def __init__(self, fd: int, path: Path, threads: Threads) -> None:
        self._fd, self._path, self._threads = fd, path, threads

    async def gather(self, window: BlockWindow) -> dict[int, IntegrityError]:
        """Take the window's blocks from the medium, each of which can be had. StoreError."""
        with local_io(REPLICA, self._path):
            await self._threads.run(window.load, self._fd)
        return {}
