"""Page hashes of one disk in the order they were learned; appended to, then synced, then replayed into the page map.

Of several rows of a block the last one counts. A log that ends early leaves pages unknown, which costs sending them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from warmspare.model.columns import U32, U64
from warmspare.model.units import BLOCK_PAGES
from warmspare.state.local_files import STATE_DIRECTORY
from warmspare.sync.journal.checked_log import CheckedLog, RecordForm

# Version 2: the checksum is of the head, too. A log of version 1 gives nothing: its pages are unknown.
FORM = RecordForm(b"WSP2", row=np.dtype([("block", "<u4"), ("pages", "<u8", (BLOCK_PAGES,))]))


class PageLog:
    """The log at `path`, which goes on. Close it."""

    def __init__(self, path: Path) -> None:
        self._log = CheckedLog(path, STATE_DIRECTORY, FORM)

    def append(self, blocks: U32, pages: U64) -> None:
        """blocks: n numbers; pages: shape (n, 16). Buffered by the kernel only."""
        if not blocks.size:
            return
        rows = np.empty(blocks.size, dtype=FORM.row)
        rows["block"], rows["pages"] = blocks, pages
        self._log.append(rows=rows)

    @property
    def empty(self) -> bool:
        """Whether nothing was ever written."""
        return self._log.empty

    def sync(self) -> None:
        self._log.sync()

    def close(self) -> None:
        self._log.close()

    def replay(self) -> Iterator[tuple[U32, U64]]:
        """Batches as appended; stops at the first that is cut off or damaged (the rest stays unknown)."""
        for record in self._log.records():
            yield record.rows["block"].astype(np.uint32), record.rows["pages"].astype(np.uint64)
