"""Owns one question: what does a readiness check of a whole Debian's restore point cost beside another version's?

Neither has a replica: what a check reads is put together from the repository. Each version has a repository of its own
with the same disk, made once; then they check it by turns, and who begins takes turns too. What counts is the ratio of
the medians, for bytes fetched and for wall time. The Debian is mmdebstrap's, which needs root and a mirror of Debian;
with --disk any other raw disk is checked, of which nothing may stop the start.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import harness  # before bootdisk: it says where that is

# isort: split
import bootdisk


@dataclass(frozen=True, slots=True)
class Version:
    """One of the two: its command, and its repository with the disk."""

    name: str
    command: list[str]
    repo: Path

    def check(self, firmware: str) -> harness.Run:
        return harness.run(
            [
                *self.command,
                "recover",
                "check",
                "--vm",
                "bench",
                "--repo",
                str(self.repo),
                "--firmware",
                firmware,
                "--json",
            ]
        )


def main() -> None:
    parser = harness.parser(__doc__, runs=9)
    parser.add_argument("--vs", metavar="COMMAND", required=True, help="the other version's warmspare")
    parser.add_argument("--disk", type=Path, help="a raw disk to check (default: a Debian, made here)")
    parser.add_argument("--firmware", choices=("bios", "uefi"), default="bios")
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    with harness.scratch(options, "readiness") as work:
        disk = _disk(options, work)
        versions = [
            _version(name, command, work / name, disk)
            for name, command in (("this", harness.warmspare(options)), ("other", options.vs.split()))
        ]
        took: dict[str, list[harness.Run]] = {one.name: [] for one in versions}
        for number in range(options.runs + 1):  # the first pair warms up and does not count
            for one in versions if number % 2 else versions[::-1]:
                run = one.check(options.firmware)
                if number:
                    took[one.name].append(run)
                    print(f"  {one.name}: {run.wall_s:.2f} s", file=sys.stderr)
        setting = {"disk": options.disk or f"Debian, {options.firmware}", "pairs": options.runs, "other": options.vs}
        figures = [{"version": name, "bytes": _bytes(runs), **harness.summary(runs)} for name, runs in took.items()]
        this, other = took["this"], took["other"]
        wall = statistics.median(run.wall_s for run in this) / statistics.median(run.wall_s for run in other)
        cpu = statistics.median(_cpu(run) for run in this) / statistics.median(_cpu(run) for run in other)
        figures.append({"ratio": "this / other", "bytes": _bytes(this) / _bytes(other), "wall_s": wall, "cpu_s": cpu})
        harness.report(options, "A check of a whole Debian without a replica", setting, figures)


def _disk(options: argparse.Namespace, work: Path) -> Path:
    if options.disk:
        return Path(options.disk)
    kept: Path = options.dir / f"debian-{options.firmware}.raw"
    if not kept.exists():
        try:
            bootdisk.build_debian(work / "disk.raw", options.firmware)
        except bootdisk.BuildError as error:
            raise harness.BenchError(f"the Debian can't be made: {error}; give another disk with --disk") from None
        shutil.move(work / "disk.raw", kept)
    return kept


def _version(name: str, command: list[str], home: Path, disk: Path) -> Version:
    home.mkdir()
    repo, state = home / "repo", home / "state"
    new = harness.begin(command, repo)
    words = ["--vm", "bench", "--repo", str(repo), "--state", str(state), "--json", *new]
    harness.run([*command, "sync", f"disk={disk}", *words], durable=[repo])
    return Version(name, command, repo)


def _bytes(runs: list[harness.Run]) -> float:
    return statistics.median(run.event("point.read")["bytes_fetched"] for run in runs)


def _cpu(run: harness.Run) -> float:
    return run.user_s + run.system_s


if __name__ == "__main__":
    harness.main(main)
