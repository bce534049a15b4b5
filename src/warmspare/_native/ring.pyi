"""What ext/ring.pyx offers; the docstrings stand there."""

from typing import Final

DATA_OFFSET: Final = 65536
ENTRIES: Final = 256
READ: Final = 1
ALLOCATED: Final = 2
SHORT: Final = 0x10000
REFUSED: Final = 0x20000
NONSENSE: Final = 0x30000
UNSUPPORTED: Final = 0x40000

class Ring:
    def __init__(self, memory: memoryview) -> None: ...
    def submit(
        self, op: int, ticket: int, sector: int, sectors: int, offset: int, room: int, chunk: int = 0
    ) -> bool: ...
    def reap(self) -> list[tuple[int, int, int]]: ...
