"""Owns one question: is a sync as quick as one by another version of the program? Uses loopback alone.

Each version has a repository, state and copy of the disk of its own. A pair is the same step by both, one right after
the other, and who begins takes turns: a first sync to an empty repository, an increment of scattered 8 KiB writes that
a tracker reports at 64 KiB, and a sync of nothing. Steps are measured in a directory and on SeaweedFS. Every pair's
ratio is printed; what counts is their median, and how far they spread.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
from s3 import BUCKET, seaweed

GRAIN = 64 << 10
WRITE = 8 << 10


@dataclass(frozen=True, slots=True)
class Version:
    """One of the two: its command, and where it works. said: what its first sync is told, if it wants to be."""

    name: str
    command: list[str]
    home: Path
    said: list[str]

    @property
    def disk(self) -> Path:
        return self.home / "disk.raw"

    def sync(self, repo: str, state: Path, *more: str) -> harness.Run:
        arguments = ["--vm", "bench", "--repo", repo, "--state", str(state), "--level", "3", "--json"]
        durable = [state] if repo.startswith("s3:") else [state, Path(repo)]
        return harness.run([*self.command, "sync", f"disk={self.disk}", *arguments, *more], durable=durable)


def main() -> None:
    parser = harness.parser(__doc__, runs=15, mb=256)
    parser.add_argument("--vs", metavar="COMMAND", required=True, help="the other version's warmspare")
    options = parser.parse_args()
    image = harness.image(options)
    with harness.scratch(options, "versions") as work:
        versions = [
            _version(name, command, work / name, image)
            for name, command in (("this", harness.warmspare(options)), ("other", options.vs.split()))
        ]
        figures = []
        for store, serving in (("directory", _directory), ("SeaweedFS", _s3)):
            with serving(work) as place:
                figures += list(_measure(options, store, place, versions))
    setting = {"image": image.name, "pairs": options.runs, "other": options.vs, "ratio": "this / other"}
    harness.report(options, "A sync beside one by another version", setting, figures)


def _version(name: str, command: list[str], home: Path, image: Path) -> Version:
    home.mkdir()
    version = Version(name, command, home, ["--new"] if _knows_init(command) else [])
    shutil.copyfile(image, version.disk)
    return version


def _knows_init(command: list[str]) -> bool:
    return subprocess.run([*command, "init", "--help"], capture_output=True, check=False).returncode == 0


@contextmanager
def _directory(work: Path) -> Iterator[Callable[[str], str]]:
    yield lambda name: str(work / f"repo-{name}")


@contextmanager
def _s3(work: Path) -> Iterator[Callable[[str], str]]:
    with ExitStack() as stack:
        _, environment = stack.enter_context(seaweed(work))
        before = dict(os.environ)
        stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ.update(environment)
        yield lambda name: f"s3://{BUCKET}/{name}"


def _measure(
    options: argparse.Namespace, store: str, place: Callable[[str], str], versions: list[Version]
) -> Iterator[dict[str, Any]]:
    rng = random.Random(options.seed)
    took: dict[str, list[tuple[float, float]]] = {"first sync": [], "increment": [], "nothing": []}
    for number in range(options.runs + 1):  # the first pair warms up and does not count
        order = versions if number % 2 else versions[::-1]
        repos = {one.name: place(f"{one.name}-{number}") for one in versions}
        states = {one.name: one.home / f"state-{store}-{number}" for one in versions}
        seed = rng.random()
        for step, pairs in took.items():
            runs: dict[str, harness.Run] = {}
            for one in order:
                extents = one.home / "extents"
                if step == "first sync":
                    if one.said:
                        harness.run([*one.command, "init", repos[one.name], "--json"])
                    more = one.said
                else:
                    written = _scatter(one.disk, random.Random(seed)) if step == "increment" else []
                    extents.write_text("".join(f"{at} {GRAIN}\n" for at in written))
                    more = ["--extents", str(extents)]
                harness.warm(one.disk)
                runs[one.name] = one.sync(repos[one.name], states[one.name], *more)
            if number:
                pairs.append((runs["this"].wall_s, runs["other"].wall_s))
                print(f"  {store}, {step}: {pairs[-1][0]:.3f} / {pairs[-1][1]:.3f} s", file=sys.stderr)
        for one in versions:
            harness.fresh(states[one.name])
            if not repos[one.name].startswith("s3:"):
                harness.fresh(Path(repos[one.name]))
    for step, pairs in took.items():
        ratios = sorted(ours / theirs for ours, theirs in pairs)
        low, middle, high = statistics.quantiles(ratios, n=4)
        yield {
            "store": store,
            "step": step,
            "this_s": statistics.median(ours for ours, _ in pairs),
            "other_s": statistics.median(theirs for _, theirs in pairs),
            "ratio": middle,
            "interquartile_range": high - low,
            "ratios": " ".join(f"{ours / theirs:.3f}" for ours, theirs in pairs),
        }


def _scatter(disk: Path, rng: random.Random) -> list[int]:
    """500 random writes within the disk; the places of 64 KiB that they touch."""
    size = disk.stat().st_size
    touched = set()
    with disk.open("r+b") as file:
        for _ in range(500):
            offset = rng.randrange(size // WRITE) * WRITE
            file.seek(offset)
            file.write(rng.randbytes(WRITE))
            touched.add(offset // GRAIN * GRAIN)
    return sorted(touched)


if __name__ == "__main__":
    harness.main(main)
