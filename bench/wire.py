"""Owns one question: how many bytes cross the wire for a real change, however coarsely it is reported?

Data: a real ext4 image (--mb of content), and three changes to copies of it: a package upgrade, a database
run, and scattered 8 KiB writes. Each change is reported as extents of 4 KiB (nothing over-reported), 64 KiB,
256 KiB and 1 MiB; the sync starts each time from the same repository and state. Beside bytes_sent, the
reference: what zstd -3 makes of just the changed 4 KiB pages in 1 MiB runs, by this bench's own comparison.
Counts bytes, not seconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import harness
from rigs.images import data

GRANULARITIES = (4096, 65536, 262144, 1 << 20)
SMALL_BYTES = 1 << 20


def main() -> None:
    options = harness.parser(__doc__, runs=1)
    options.add_argument("--upgrade-mb", type=int, help="MB of upgraded packages (default: a seventh of --mb)")
    options.add_argument("--seconds", type=float, default=60, help="of the database run (60)")
    options.add_argument("--tps", type=float, default=20, help="of the database run (20)")
    options.add_argument("--writes", type=int, default=4000, help="scattered 8 KiB writes (4000)")
    options.add_argument("--level", default="3", help="of the sync; the reference is always 3 (3)")
    arguments = options.parse_args()
    command = harness.warmspare(arguments)
    base = harness.image(arguments)
    upgrade_mb = arguments.upgrade_mb or max(1, arguments.mb // 7)
    seed = arguments.seed
    changes: dict[str, Callable[[Path], object]] = {
        f"upgrade of {upgrade_mb} MB": lambda disk: data.package_upgrade(disk, megabytes=upgrade_mb, seed=seed),
        f"database, {arguments.seconds:.0f} s at {arguments.tps:.0f} tps": lambda disk: data.database_run(
            disk, seconds=arguments.seconds, tps=arguments.tps, seed=seed
        ),
        f"{arguments.writes} scattered writes": lambda disk: data.scattered(disk, writes=arguments.writes, seed=seed),
    }
    figures: list[dict[str, object]] = []
    with harness.scratch(arguments, "wire") as work:
        disk, repo, state = work / "disk.raw", work / "repo", work / "state"
        sync = [*command, "sync", str(disk), "--vm", "bench", "--repo", str(repo), "--state", str(state)]
        sync += ["--level", arguments.level, "--json"]
        data.copy_sparse(base, disk)
        harness.run([*sync, *harness.begin(command, repo)])
        repo.rename(work / "repo-base")
        state.rename(work / "state-base")
        for name, change in changes.items():
            data.copy_sparse(base, disk)
            change(disk)
            reference = data.changed_pages_zstd(base, disk, 3)
            changed = data.changed_pages_bytes(base, disk)
            for granularity in GRANULARITIES:
                restore(work / "repo-base", repo)
                restore(work / "state-base", state)
                extents = data.changed_extents(base, disk, granularity)
                data.write_extents(work / "extents", extents)
                event = harness.run([*sync, "--extents", str(work / "extents")]).event("sync.done")
                figures.append(
                    {
                        "change": name,
                        "granularity": granularity,
                        "reported_mb": round(sum(length for _, length in extents) / 1e6, 2),
                        "changed_pages_mb": round(changed / 1e6, 2),
                        "reference_bytes": reference,
                        "bytes_sent": event["bytes_sent"],
                        "ratio": event["bytes_sent"] / reference,
                    }
                )
    setting = {
        "data": base.name,
        "store": "directory",
        "level": arguments.level,
        "reference": "zstd -3 of the changed, non-zero 4 KiB pages in 1 MiB runs",
        "goal": "scattered writes at 64 KiB and 1 MiB: at most 1.10",
    }
    harness.report(arguments, "Bytes on the wire for a change, by how coarsely it is reported", setting, figures)


def restore(saved: Path, place: Path) -> None:
    """Put a saved directory back: large files as hard links where they are immutable packs, others as copies.

    Only the repository has large immutable files; everything of the state directory is copied, holes kept.
    """
    harness.fresh(place)
    place.mkdir()
    for path in sorted(saved.rglob("*")):
        target = place / path.relative_to(saved)
        if path.is_dir():
            target.mkdir()
        elif path.is_symlink():
            target.symlink_to(path.readlink())
        elif saved.name.startswith("repo") and path.stat().st_size >= SMALL_BYTES:
            target.hardlink_to(path)
        else:
            data.copy_sparse(path, target)
            shutil.copystat(path, target)


if __name__ == "__main__":
    harness.main(main)
