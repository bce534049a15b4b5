"""What ext/judge.pyx offers; the docstrings stand there."""

from typing import Final

from warmspare.model.columns import U8, U32

SOUND: Final = 0
ZERO: Final = 1
WRONG: Final = 2
SHORT: Final = 3
UNREADABLE: Final = 4

def judge(fd: int, capacity: int, blocks: U32, expected: U8, actual: U8, verdict: U8) -> int: ...
def judge_span(data: memoryview, expected: U8, actual: U8, verdict: U8) -> None: ...
def hash_both(data: bytes | bytearray | memoryview) -> tuple[bytes, bytes]: ...
