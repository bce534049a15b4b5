"""Owns one question: how much memory do sync and apply take, and does it follow the size of the disk?

Sampled every 20 ms: RssAnon + RssShmem over the command and all its children. Data: (a) a real ext4 image
(--mb of content); (b) a sparse disk of 8 TiB with 100,000 far-apart 64 KiB blocks, three pages of data in
each (1.2 GB), synced whole, then with one page changed in each block, reported as 64 KiB extents. The
increment is timed too. File-backed pages (a mapped page map) are not counted: the kernel can drop them at
any time; they are shown beside.
"""

from __future__ import annotations

from pathlib import Path

import harness
from rigs.host.peak import SAMPLE_S, measure
from rigs.images import data
from standin import Standin


def main() -> None:
    options = harness.parser(__doc__, runs=1)
    options.add_argument("--extents", type=int, default=100_000, help="blocks of the huge disk (100000)")
    options.add_argument("--only", choices=["image", "huge"], help="measure one of the two only")
    arguments = options.parse_args()
    command = harness.warmspare(arguments)
    figures: list[dict[str, object]] = []
    arguments.dir.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.runs):
        if arguments.only != "huge":
            image = harness.image(arguments)
            with harness.scratch(arguments, "memory-image") as work:
                figures += _cycle(command, image, work, f"image, run {number + 1}")
            with harness.scratch(arguments, "memory-vddk") as work:
                standin = Standin(work / "vddk")
                standin.disk(str(image), image)
                more = ["--vddk", str(standin.home)]
                figures += _cycle(command, f"disk=vddk://{image}", work, f"image through VDDK, run {number + 1}", more)
        if arguments.only != "image":
            with harness.scratch(arguments, "memory-huge") as work:
                disk, extents = work / "huge.raw", work / "extents"
                data.build_huge(disk, arguments.extents, arguments.seed)
                figures += _cycle(command, disk, work, f"huge disk, run {number + 1}")
                data.touch_huge(disk, extents, extents=arguments.extents, seed=arguments.seed)
                more = ["--extents", str(extents)]
                figures += _cycle(command, disk, work, f"huge increment, run {number + 1}", more)
    setting = {
        "data": f"{arguments.mb} MB of content in a real ext4; 8 TiB sparse with {arguments.extents} blocks",
        "store": "directory",
        "runs": arguments.runs,
        "sampled": f"every {SAMPLE_S * 1000:.0f} ms, the whole process tree",
        "goal": "RssAnon + RssShmem below 256 MiB; the increment below 60 s",
    }
    harness.report(arguments, "Peak memory of sync and apply", setting, figures)


def _cycle(
    command: list[str], disk: Path | str, work: Path, name: str, more: list[str] | None = None
) -> list[dict[str, object]]:
    store = ["--vm", "bench", "--repo", str(work / "repo"), "--json"]
    sync = [*command, "sync", str(disk), *store, "--state", str(work / "state"), *(more or [])]
    if not (work / "repo").exists():
        sync += harness.begin(command, work / "repo")
    apply = [*command, "apply", *store, "--to", str(work / "replica.raw")]
    rows = []
    for what, arguments, done in (("sync", sync, "sync.done"), ("apply", apply, "apply.done")):
        peak = measure(arguments, done)
        rows.append(
            {
                "what": f"{what} of {name}",
                "peak_mib": peak.counted_bytes / (1 << 20),
                "file_mib": peak.file_bytes / (1 << 20),
                "processes": peak.processes,
                "samples": peak.samples,
                "wall_s": peak.wall_s,
                "bytes_sent" if what == "sync" else "bytes_written": peak.event.get(
                    "bytes_sent" if what == "sync" else "bytes_written"
                ),
            }
        )
    return rows


if __name__ == "__main__":
    harness.main(main)
