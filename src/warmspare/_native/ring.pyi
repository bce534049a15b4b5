"""What ext/ring.pyx offers; the docstrings stand there."""

from typing import Final

DATA_OFFSET: Final[int]
ENTRIES: Final[int]
READ: Final[int]
ALLOCATED: Final[int]
SHORT: Final[int]
REFUSED: Final[int]
NONSENSE: Final[int]
UNSUPPORTED: Final[int]

class Ring:
    def __init__(self, memory: memoryview) -> None: ...
    def submit(
        self, op: int, ticket: int, sector: int, sectors: int, offset: int, room: int, chunk: int = 0
    ) -> bool: ...
    def reap(self) -> list[tuple[int, int, int]]: ...
