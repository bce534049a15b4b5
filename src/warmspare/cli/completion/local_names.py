"""VMs and restore points that this host knows of, by its state directory and its configuration; asks no store, takes no
lock, and says nothing of what it can't read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from warmspare.engine.host_places import config_path, state_root
from warmspare.errors import ConfigError
from warmspare.outside.regular_files import read_regular

MOST_FILES = 4000
MOST_POINTS = 20
_RECORD_BYTES, _CONFIG_BYTES = 1 << 16, 1 << 20


class LocalNames:
    """config, state: as options or the environment name them. replica: one that was named. repo: only what belongs to
    it, where it is named."""

    def __init__(self, config: str = "", state: str = "", replica: str = "", repo: str = "") -> None:
        self._config, self._state, self._replica, self._repo = config, state, replica, repo

    def vms(self) -> list[str]:
        """Names of the configuration, and IDs of what was synced from here or applied there."""
        names = [str(record["vm"]) for record in self._records()]
        try:
            file = config_path(Path(self._config) if self._config else None)
            known = tomllib.loads(read_regular(file, _CONFIG_BYTES, follow=True).decode()).get("vm")
            names += known if isinstance(known, dict) else []
        except (OSError, ValueError, RecursionError, ConfigError):
            pass
        return sorted(set(names))

    def points(self, vm: str) -> list[str]:
        """Of a VM, the newest first; those before it by their numbers."""
        newest: dict[int, str] = {}
        for record in self._records():
            number, sha256 = record.get("sequence"), record.get("sha256")
            if vm in ("", record["vm"]) and isinstance(number, int) and number > 0 and isinstance(sha256, str):
                newest[number] = f"{number}-{sha256[:8]}"
        if not newest:
            return ["latest"]
        labels = [newest[number] for number in sorted(newest, reverse=True)]
        before = range(max(newest) - 1, max(max(newest) - MOST_POINTS, 0), -1)
        return ["latest", *labels[:MOST_POINTS], *(str(number) for number in before if vm)]

    def _records(self) -> Iterator[dict[str, Any]]:
        """A VM, and a point where one is known; of senders, and of the replica."""
        for path in self._files():
            try:
                # Its first line is a checksum, which is not worth a library's import to who offers names.
                record = json.loads(read_regular(path, _RECORD_BYTES).partition(b"\n")[2])
            except (OSError, ValueError, RecursionError):
                continue
            if not isinstance(record, dict) or not isinstance(record.get("vm"), str):
                continue
            if self._repo and record.get("uri") not in (self._repo, str(Path(self._repo).absolute())):
                continue
            at = record.get("at")
            yield {**record, **at} if isinstance(at, dict) else record

    def _files(self) -> Iterator[Path]:
        try:
            if self._replica:
                yield Path(self._replica, ".warmspare", "replica.json")
                yield Path(self._replica + ".warmspare", "replica.json")
            root = Path(self._state) if self._state else state_root()
            yield from islice(root.glob("*/*/state.json"), MOST_FILES)
        except (OSError, ValueError, ConfigError):
            return
