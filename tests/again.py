"""Runs the tests that depend on time again and again beside a busy loop on each core; counts, and forgives none.

    python tests/again.py                          the tests marked `timed`, 10 times
    python tests/again.py --times 3 tests/unit     fewer times; of these files or tests
    python tests/again.py --all tests/e2e/test_spool.py::test_a_full_spool     whether marked or not

Prints a line for each test that was not green each time, and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

BUSY = ["sh", "-c", "while :; do :; done"]


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that only compute, ended with this block."""
    loops = [subprocess.Popen(BUSY) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run(tests: list[str], workers: int, marked: str) -> dict[str, str]:
    """Test → "" or the first line of why it failed; a run that ends without a report is a failure of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        words = ["-m", "pytest", *tests, "-m", marked, "-n", str(workers), "--dist", "loadfile", f"--junitxml={report}"]
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
        if done.returncode not in (0, 1) or not report.exists():
            return {"(the run itself)": (done.stdout + done.stderr)[-2000:]}
        found = {}
        for case in ElementTree.parse(report).iter("testcase"):
            trouble = [each for each in case if each.tag in ("failure", "error")]
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
            found[name] = (trouble[0].get("message") or "failed").splitlines()[0] if trouble else ""
        return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--times", type=int, default=10)
    options.add_argument("--busy", type=int, default=os.cpu_count() or 1, help="busy loops beside the tests")
    options.add_argument("--workers", type=int, default=4, help="as many as `make test` has")
    options.add_argument("--all", action="store_true", help="also tests that are not marked as timed")
    options.add_argument("tests", nargs="*", default=["tests"])
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no loop outlives this
    ran, green, why = Counter[str](), Counter[str](), dict[str, str]()
    with busy(given.busy):
        for number in range(1, given.times + 1):
            began = time.monotonic()
            results = run(given.tests, given.workers, "not slow" if given.all else "timed and not slow")
            for name, trouble in results.items():
                ran[name] += 1
                green[name] += not trouble
                if trouble:
                    why[name] = trouble
                    print(f"  {name}: {trouble}", flush=True)
            failed = sum(map(bool, results.values()))
            print(f"run {number}: {len(results)} tests, {failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    for name in sorted(why):
        print(f"{green[name]}/{ran[name]} {name}: {why[name]}")
    print(
        f"{sum(map(green.__getitem__, ran))} passed, {sum(ran.values()) - sum(green.values())} failed, "
        f"of {len(ran)} tests {given.times} times beside {given.busy} busy loops"
    )
    return 1 if why or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
