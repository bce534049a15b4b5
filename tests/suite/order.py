"""In which order the files of tests are handed to the workers: those that take longest first, so that none is left to
run alone at the end.

A worker is handed whole files. By itself it would get those with the most tests first; but the longest have a few, of
which each waits for a clock, a boot or a server.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from rigs.paths import TESTS

# Over 60 s on two cores beside the others, longest first. A file that is not here only comes later.
LONGEST = (
    "vcenter/test_site_passes.py",
    "e2e/test_failover.py",
    "conformance/test_servers.py",
    "conformance/test_promises_on_servers.py",
    "fault/test_kills.py",
    "e2e/test_drill_ec2.py",
    "e2e/test_drill.py",
    "e2e/test_rehearsal_qemu.py",
    "e2e/test_failover_remedies.py",
    "e2e/test_audit_repository.py",
    "fault/test_link_kills.py",
    "e2e/test_rehearsal.py",
    "e2e/test_identity.py",
    "e2e/test_rolling_audit.py",
    "fault/test_s3_ends.py",
    "e2e/test_passes.py",
    "fault/test_vddk_faults.py",
    "vcenter/test_site_demo.py",
    "e2e/test_failback.py",
    "recover/test_stage_resuming.py",
    "conformance/test_store.py",
    "e2e/test_second_reader.py",
    "vcenter/test_site_signals.py",
    "e2e/test_s3_rights.py",
    "e2e/test_housekeeping.py",
    "e2e/test_import_image.py",
    "fault/test_wrong_clock.py",
    "e2e/test_copy.py",
    "unit/test_cli.py",
    "e2e/test_held_point.py",
    "fault/test_vddk_sanitized.py",
    "vcenter/test_site_kills.py",
)


def arrange(items: list[pytest.Item]) -> None:
    """The longest, then by number of tests; within a file as they stand there. Of workers only: who runs some by hand
    has the order of the files."""
    rank = {TESTS / name: place for place, name in enumerate(LONGEST)}
    tests = Counter(item.path for item in items)

    def key(item: pytest.Item) -> tuple[int, int, Path]:
        return rank.get(item.path, len(LONGEST)), -tests[item.path], item.path

    items.sort(key=key)
