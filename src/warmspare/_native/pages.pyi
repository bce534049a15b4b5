"""What ext/pages.pyx offers; the docstrings stand there."""

from typing import Final

from warmspare.model.columns import U8, U16, U64

UNCHANGED: Final = 0
CHANGED: Final = 1
ZEROED: Final = 2

def filter_span(
    span: bytes | bytearray | memoryview,
    seed: int,
    old_blocks: U8,
    old_pages: U64,
    whole: U8,
    new_blocks: U8,
    new_pages: U64,
    nonzero: U16,
    changed: U16,
    known: U16,
    state: U8,
) -> None: ...
def hash_span(span: bytes | bytearray | memoryview, entries: U8) -> None: ...
def gather(
    span: bytes | bytearray | memoryview, masks: U16, first: int, stop: int, frame: bytearray, position: int
) -> int: ...
