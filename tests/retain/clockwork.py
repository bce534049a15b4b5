"""Time that goes by as a test wants it: for records, for a directory's objects, and for who asks how old they are."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path

import pytest

import warmspare.repository.history.retained
import warmspare.retain.vm_standing
import warmspare.sync.sender
from warmspare.store.directory.directory_store import DirectoryStore


class Clockwork:
    """Of one repository in a directory. ahead_s: of this host's clock."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self._root, self.ahead_s = root, 0.0
        self._seen: dict[str, float] = {}
        really = time.time

        async def now(store: DirectoryStore) -> float:
            return really() + self.ahead_s

        patch.setattr(DirectoryStore, "now", now)
        patch.setattr(warmspare.retain.vm_standing, "host_now_s", lambda: really() + self.ahead_s)
        for module in (warmspare.sync.sender, warmspare.repository.history.retained):
            patch.setattr(module, "now_text", self.text)

    def text(self) -> str:
        now = datetime.datetime.fromtimestamp(time.time() + self.ahead_s, datetime.UTC)
        return now.isoformat(timespec="seconds").replace("+00:00", "Z")

    def date(self) -> None:
        """Give objects that were written since the last time the dates that they would have."""
        for path in self._root.rglob("*"):
            if path.is_file():
                when = path.stat().st_mtime
                if self._seen.get(str(path)) != when:
                    os.utime(path, (when + self.ahead_s,) * 2)
                    self._seen[str(path)] = path.stat().st_mtime

    def pass_by(self, seconds: float) -> None:
        """So much later."""
        self.date()
        self.ahead_s += seconds
