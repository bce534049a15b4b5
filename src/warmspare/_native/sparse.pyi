"""What ext/sparse.pyx offers; the docstrings stand there."""

from typing import Final

from warmspare.model.columns import U8, U16, U32

WRITTEN: Final = 0
MISMATCH: Final = 1

def apply_records(
    fd: int,
    capacity: int,
    frame: bytes | bytearray | memoryview,
    block: U32,
    carried: U16,
    zero: U16,
    framed: U16,
    slot: U32,
    expected: U8,
    verdict: U8,
) -> int: ...
def start_writeback(fd: int, offset: int, length: int) -> None: ...
