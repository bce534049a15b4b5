"""The first page of a local cache file: its generation and whether it can be trusted; nothing of the rest.

The protocol (architecture.md, invariant 10): mark invalid, sync, write, sync, set the generation, sync. A
file whose header is torn, of another version or marked invalid has the generation None.
"""

from __future__ import annotations

import struct

import xxhash

from warmspare.state.page_file import PageFile

HEADER = struct.Struct("<8sI32sQQ")  # magic, valid, generation, capacity, seed
HEADER_BYTES = 4096


class CacheHeader:
    """magic: 8 bytes naming the kind of file and its version."""

    def __init__(self, file: PageFile, magic: bytes) -> None:
        self._file, self._magic = file, magic
        self.generation: str | None = None
        self.capacity_bytes = 0
        self.seed = 0
        data = file.read(0, HEADER.size + 8)
        body, checksum = data[:-8], int.from_bytes(data[-8:], "little")
        found, valid, generation, capacity, seed = HEADER.unpack(body)
        if found == magic and checksum == xxhash.xxh3_64_intdigest(body):
            self.capacity_bytes, self.seed = capacity, seed
            self.generation = generation.hex() if valid else None

    @property
    def known(self) -> bool:
        """Whether the header was readable at all (its seed can be kept)."""
        return self.seed != 0

    def write(self, generation: str | None) -> None:
        """Write the header and sync; None marks the file invalid."""
        self.generation = generation
        raw = bytes.fromhex(generation) if generation else bytes(32)
        body = HEADER.pack(self._magic, generation is not None, raw, self.capacity_bytes, self.seed)
        self._file.write(0, body + xxhash.xxh3_64_intdigest(body).to_bytes(8, "little"))
        self._file.sync(data_only=True)
