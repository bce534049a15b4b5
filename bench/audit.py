"""Owns two questions: how near to hashing alone is a replica's audit, and does a sparse disk cost what its data does?

Dense: a raw image of --mb MiB without a page of zeros, synced once, judged as it is (`audit replica --at`), beside
`xxhsum -H2` over the same file in the page cache; both pinned to one core, and both free to use all. xxhsum's rate is
that of the whole process; the audit's is stated twice, that of judging (as the audit's report has it) and that of the
whole process, which also starts Python and rebuilds the hash table from the repository.
Sparse: 8 TiB with 2 GB of data in blocks of 64 KiB, each far from the next; memory is sampled as memory.py does.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np

import harness
from rigs.host.peak import measure

PIECE_BYTES = 64 << 20
PAGE_BYTES = 4096
SPARSE_BYTES = 8 << 40
SPARSE_BLOCKS = 30_600  # of 64 KiB: 2 GB
BLOCK_BYTES = 64 << 10


def main() -> None:
    arguments = harness.parser(__doc__, mb=4096)
    arguments.add_argument("--blocks", type=int, default=SPARSE_BLOCKS, help=f"of the sparse disk ({SPARSE_BLOCKS})")
    arguments.add_argument("--only", choices=["dense", "sparse"])
    options = arguments.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    figures: list[dict[str, object]] = []
    if options.only != "sparse":
        with harness.scratch(options, "audit-dense") as work:
            figures += dense(options, work)
    if options.only != "dense":
        with harness.scratch(options, "audit-sparse") as work:
            figures += sparse(options, work)
    setting = {
        "data": f"{options.mb} MiB without a page of zeros; 8 TiB with {options.blocks} far-apart blocks of 64 KiB",
        "store": "directory",
        "runs": options.runs,
        "order": "A B A B",
        "goal": "judging at least 0.7 of xxhsum's rate on one core and 1.3 on two; sparse below 20 s; below 256 MiB",
    }
    harness.report(options, "An audit of a replica beside xxhsum -H2", setting, figures)


def build_dense(path: Path, size: int) -> None:
    """Pages that compress, so that the repository stays small; no two alike, none of zeros."""
    page = np.frombuffer(b"a page of a disk that is not empty, and that compresses. " * 80, np.uint8)[:PAGE_BYTES]
    with path.open("wb", buffering=0) as file:
        for start in range(0, size, PIECE_BYTES):
            count = min(PIECE_BYTES, size - start) // PAGE_BYTES
            piece = np.tile(page, (count, 1))
            numbers = np.arange(start // PAGE_BYTES + 1, start // PAGE_BYTES + 1 + count, dtype="<u8")
            piece[:, :8] = numbers.view(np.uint8).reshape(count, 8)
            file.write(piece.tobytes())


def build_sparse(path: Path, blocks: int) -> int:
    """As many blocks of such pages, evenly apart in a file of 8 TiB; the bytes of data."""
    pages = BLOCK_BYTES // PAGE_BYTES
    page = np.frombuffer(b"a page of a disk that is not empty, and that compresses. " * 80, np.uint8)[:PAGE_BYTES]
    step = SPARSE_BYTES // BLOCK_BYTES // blocks * BLOCK_BYTES
    with path.open("wb", buffering=0) as file:
        file.truncate(SPARSE_BYTES)
        for number in range(blocks):
            block = np.tile(page, (pages, 1))
            numbers = np.arange(number * pages + 1, (number + 1) * pages + 1, dtype="<u8")
            block[:, :8] = numbers.view(np.uint8).reshape(pages, 8)
            os.pwrite(file.fileno(), block.tobytes(), number * step)
        os.fsync(file.fileno())
    return blocks * BLOCK_BYTES


def audit_command(command: list[str], image: Path, work: Path) -> list[str]:
    return [
        *command,
        "audit",
        "replica",
        "--vm",
        "bench",
        "--repo",
        str(work / "repo"),
        "--replica",
        str(image),
        "--at",
        "latest",
        "--reports",
        str(work / "reports"),
        "--json",
    ]


def sync(command: list[str], image: Path, work: Path) -> None:
    os.environ["XDG_STATE_HOME"] = str(work / "local")
    store = ["--vm", "bench", "--repo", str(work / "repo"), "--state", str(work / "state"), "--json"]
    harness.run([*command, "sync", str(image), *store, *harness.begin(command, work / "repo")])


def judging_s(run: harness.Run) -> float:
    """Seconds that the audit spent on its one disk, from its kept report."""
    report = json.loads(Path(run.event("audit.done")["report"]).read_text())
    return float(report["disks"][0]["seconds"])


def dense(options: argparse.Namespace, work: Path) -> list[dict[str, object]]:
    command, peer = harness.warmspare(options), harness.program("xxhsum", "xxhash")
    pin = [harness.program("taskset", "util-linux"), "-c", str(min(os.sched_getaffinity(0)))]
    image = work / "dense.raw"
    build_dense(image, options.mb << 20)
    sync(command, image, work)
    audit = audit_command(command, image, work)

    def side(run: list[str]) -> harness.Run:
        harness.warm(image)
        return harness.run(run)

    done = harness.alternate(
        options.runs,
        {
            "xxhsum -H2, one core": lambda: side([*pin, peer, "-H2", str(image)]),
            "audit, one core": lambda: side([*pin, *audit, "--threads", "1"]),
            "xxhsum -H2, free": lambda: side([peer, "-H2", str(image)]),
            "audit, all cores": lambda: side(audit),
        },
    )
    size = options.mb << 20
    rows: list[dict[str, object]] = []
    for pair in (("xxhsum -H2, one core", "audit, one core"), ("xxhsum -H2, free", "audit, all cores")):
        peer_s = float(np.median([run.wall_s for run in done[pair[0]]]))
        own_s = float(np.median([judging_s(run) for run in done[pair[1]]]))
        rows.append({"what": pair[0], **harness.summary(done[pair[0]]), "gb_s": size / peer_s / 1e9, "ratio": 1.0})
        whole = harness.summary(done[pair[1]])
        rows.append(
            {
                "what": pair[1],
                **whole,
                "judging_s": own_s,
                "gb_s": size / own_s / 1e9,
                "ratio": peer_s / own_s,
                "ratio_of_whole_process": peer_s / whole["wall_s"],
            }
        )
    peak = measure(audit, "audit.done")
    rows.append({"what": "audit, all cores: memory", "peak_mib": peak.counted_bytes / (1 << 20)})
    return rows


def sparse(options: argparse.Namespace, work: Path) -> list[dict[str, object]]:
    command = harness.warmspare(options)
    image = work / "sparse.raw"
    written = build_sparse(image, options.blocks)
    sync(command, image, work)
    rows: list[dict[str, object]] = []
    for number in range(options.runs):
        harness.warm(image)
        peak = measure(audit_command(command, image, work), "audit.done")
        rows.append(
            {
                "what": f"audit of 8 TiB, run {number + 1}",
                "wall_s": peak.wall_s,
                "bytes_of_data": written,
                "bytes_read": peak.event.get("bytes_read"),
                "peak_mib": peak.counted_bytes / (1 << 20),
                "findings": peak.event.get("findings"),
            }
        )
    return rows


if __name__ == "__main__":
    harness.main(main)
