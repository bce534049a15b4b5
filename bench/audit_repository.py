"""Owns one question: what does a deep audit of a repository cost beside decompressing it? Measures no network.

Data: a chain of restore points of a real ext4 image (--mb of content): a first sync, then --rounds syncs, each after an
upgrade of packages and a run of the database, the last after scattered pages too, to a directory store on the same
disk. Side A: `warmspare audit repository --deep`, two cores. Side B: `zstd -d` of all payloads that the packs hold, in
one file, to a file that is fsynced; `zstd -t` of the same, which writes nothing, stands beside it. Each program is a
process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import zstandard

import harness
from rigs.host.peak import measure
from rigs.images import changes, data, pgreplay
from warmspare.format import frame, pack


def main() -> None:
    parser = harness.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="points after the first (4)")
    options = parser.parse_args()
    command = harness.warmspare(options)
    peer = harness.program("zstd", "zstd")
    image = harness.image(options)
    with harness.scratch(options, "audit-repository") as work:
        repo, disk, payloads, plain = (work / name for name in ("repo", "disk.raw", "payloads.zst", "plain.raw"))
        os.environ["XDG_STATE_HOME"] = str(work / "xdg")
        _chain(command, image, disk, repo, work, options)
        raw_bytes = _payloads(repo, payloads)
        harness.sync_tree(work)
        store = ["--repo", str(repo), "--scratch", str(work / "scratch"), "--reports", str(work / "reports"), "--json"]
        deep = [*command, "audit", "repository", "--deep", *store]

        def side(run: list[str], source: Path, durable: list[Path]) -> harness.Run:
            harness.fresh(plain)
            for file in [source] if source.is_file() else sorted(source.rglob("*")):
                if file.is_file():
                    harness.warm(file)
            return harness.run(run, durable=durable)

        sides = {
            "zstd -d": lambda: side([peer, "-d", "-q", "-f", str(payloads), "-o", str(plain)], payloads, [plain]),
            "zstd -t": lambda: side([peer, "-t", "-q", str(payloads)], payloads, []),
            "audit --deep": lambda: side(deep, repo, []),
            "audit": lambda: side([one for one in deep if one != "--deep"], repo, []),
        }
        done = harness.alternate(options.runs, sides)
        report = json.loads(Path(done["audit --deep"][-1].event("audit.done")["report"]).read_text())
        if report["result"] != "clean" or report["coverage_percent"] != 100.0:
            raise harness.BenchError("the audit did not judge all of it: the figures would mean nothing")
        peak = measure(deep, "audit.done")
        limit = harness.summary(done["zstd -d"])
        figures = [
            {"what": name, **harness.summary(runs), "ratio": harness.summary(runs)["wall_s"] / limit["wall_s"]}
            for name, runs in done.items()
        ]
        figures.append(
            {
                "what": "audit --deep: peak memory and scratch",
                "peak_mib": peak.counted_bytes / (1 << 20),
                "scratch_mib": report["figures"]["scratch bytes"] / (1 << 20),
                "block states": report["figures"]["block states verified"],
            }
        )
        setting = {
            "data": f"{image.name}, {data.nonzero_bytes(image)} non-zero bytes, {options.rounds + 1} restore points; "
            f"{payloads.stat().st_size} bytes of payloads, {raw_bytes} decompressed",
            "store": "directory",
            "runs": options.runs,
            "order": "A B A B",
            "goal": "at most 2.0 times zstd -d; under 256 MiB",
        }
    harness.report(options, "A deep repository audit beside zstd -d over the same packs", setting, figures)


def _chain(command: list[str], image: Path, disk: Path, repo: Path, work: Path, options: object) -> None:
    """The repository to audit."""
    seed, rounds = int(getattr(options, "seed", 1)), int(getattr(options, "rounds", 4))
    subprocess.run(["cp", "--sparse=always", str(image), str(disk)], check=True)
    sync = [*command, "sync", str(disk), "--vm", "bench", "--repo", str(repo), "--state", str(work / "state"), "--json"]
    harness.run([*sync, "--level", "3", *harness.begin(command, repo)])
    for number in range(rounds):
        changes.package_upgrade(disk, megabytes=20, seed=seed + number)
        pgreplay.database_run(disk, seconds=20, tps=20, seed=seed + number)
        if number == rounds - 1:  # it spoils the database's pages for another run
            changes.scattered(disk, writes=4000, seed=seed)
        harness.run([*sync, "--level", "3"])
    shutil.rmtree(work / "state")


def _payloads(repo: Path, target: Path) -> int:
    """What the packs hold as one file that zstd takes; payloads stored raw are frames of raw blocks there. The size of
    all of it decompressed."""
    total = 0
    # Content that does not shrink becomes raw blocks at any level, which zstd copies.
    raw = zstandard.ZstdCompressor(level=1)
    with target.open("wb") as out:
        for path in sorted(repo.glob("vms/*/packs/*/*")):
            data = memoryview(path.read_bytes())
            at = pack.HEADER.size
            while at < len(data):
                size = frame.frame_bytes(data[at:], str(path))
                _, codec, _, layout_bytes, _, raw_bytes, _ = frame.HEADER.unpack_from(data, at)
                payload = data[at + frame.HEADER.size + layout_bytes : at + size]
                out.write(payload if codec == frame.ZSTD else raw.compress(payload))
                total += raw_bytes
                at += size
    return total


if __name__ == "__main__":
    harness.main(main)
