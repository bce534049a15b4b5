"""Rounds of the VDDK campaign in a Python whose binding, ring and stand-in were built with AddressSanitizer.

python sanitized.py HOME    needs libasan preloaded; docs in test_vddk_sanitized.py
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from fault.vddk_campaign import SETTINGS, World

RULES = (
    "# nothing",
    "at ReadAsync 9 fail 14011",
    "at ReadAsync 3 fail 2",
    "at ReadAsync 7 short",
    "at ReadAsync 7 nonsense",
    "at ReadAsync 9 slow 100",
    "at Read 9 error 14009",
    "at QueryAllocatedBlocks 1 short",
    "from QueryAllocatedBlocks 1 nonsense",
    "at QueryAllocatedBlocks 2 error 6",
    "at Open 2 error 14006",
    "at GetInfo 2 nonsense",
    "at GetTransportMode 2 nonsense",
    "at ConnectEx 1 error 14014",
    "at Cleanup 1 error 1",
    "at Close 2 error 1",
    "at Disconnect 2 error 1",
    "at PrepareForAccess 1 error 14009",
    "from Open 1 error 16014",
    "at InitEx 1 error 5",
    "from GetErrorText 1 nonsense\nat ReadAsync 5 fail 14009",
)


def main() -> int:
    maps = Path("/proc/self/maps").read_text()
    assert "libasan" in maps, "the sanitizer is not there"
    passed_on = {name: os.environ[name] for name in ("LD_PRELOAD", "ASAN_OPTIONS", "PYTHONMALLOC")}
    process = replace(SETTINGS.process, environment=passed_on, call_s=20.0)
    world = World(Path(sys.argv[1]), 41, settings=replace(SETTINGS, process=process, hang_s=20.0), sanitize="address")
    for number, rule in enumerate(RULES):
        world.round(number, rule if rule[0] != "#" else "at ReadAsync 1 slow 1")
    print(world.report.table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
