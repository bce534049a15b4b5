"""Owns one question: what does a first sync cost beside `zstd -3 -T2` on the same bytes? Uses no network.

Data: a real ext4 image (--mb of content). Store: a directory on the same disk. Peer: the zstd program with
two threads over the image's non-zero 4 KiB pages, extracted to a file beforehand, its result fsynced. Then:
how long does a sync take with nothing changed, with and without an empty extents file?
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import harness
from rigs.images import data


def main() -> None:
    options = harness.parser(__doc__).parse_args()
    command = harness.warmspare(options)
    zstd = harness.program("zstd", "zstd")
    image = harness.image(options)
    with harness.scratch(options, "sender") as work:
        nonzero = work / "nonzero"
        raw_bytes = data.extract_nonzero(image, nonzero)
        harness.sync_tree(nonzero)
        out, repo, state = work / "nonzero.zst", work / "repo", work / "state"

        def peer() -> harness.Run:
            harness.fresh(out)
            harness.warm(nonzero)
            return harness.run([zstd, "-q", "-3", "-T2", "-o", str(out), str(nonzero)], durable=[out])

        def sync(*more: str) -> harness.Run:
            arguments = ["--vm", "bench", "--repo", str(repo), "--state", str(state), "--json", *more]
            return harness.run([*command, "sync", str(image), *arguments], durable=[repo, state])

        def first(*more: str) -> harness.Run:
            harness.fresh(repo)
            harness.fresh(state)
            harness.warm(image)
            return sync(*more, *harness.begin(command, repo))

        sides = {
            "zstd -3 -T2": peer,
            "sync --level 3": lambda: first("--level", "3"),
            "sync": first,
        }
        done = harness.alternate(options.runs, sides)
        limit = harness.summary(done["zstd -3 -T2"])
        figures = [{"what": "zstd -3 -T2", **limit, "bytes_out": out.stat().st_size, "ratio": 1.0}]
        for name in ("sync --level 3", "sync"):
            own = harness.summary(done[name])
            sent = done[name][-1].event("sync.done")["bytes_sent"]
            figures.append({"what": name, **own, "bytes_out": sent, "ratio": own["wall_s"] / limit["wall_s"]})
        figures += _unchanged(sync, work, max(5, options.runs))
    setting = {
        "data": f"{image.name}, {raw_bytes} non-zero bytes",
        "store": "directory",
        "runs": options.runs,
        "order": "A B C A B C",
        "goal": "sync --level 3 at most 1.25 times zstd; empty extents below 0.5 s",
    }
    harness.report(options, "A first sync beside zstd -3 -T2 over the same non-zero bytes", setting, figures)


def _unchanged(sync: Callable[..., harness.Run], work: Path, runs: int) -> list[dict[str, object]]:
    empty = work / "empty-extents"
    empty.write_text("")
    figures: list[dict[str, object]] = []
    for name, more in (
        ("nothing changed, empty extents", ["--extents", str(empty)]),
        ("nothing changed", []),
    ):
        done: list[harness.Run] = [sync(*more) for _ in range(runs if more else 1)]
        event = done[-1].event("sync.done")
        figures.append(
            {
                "what": name,
                "median_ms": statistics.median(run.wall_s for run in done) * 1000,
                "runs": len(done),
                "event": json.dumps({key: event.get(key) for key in ("bytes_read", "bytes_sent", "seconds")}),
            }
        )
    return figures


if __name__ == "__main__":
    harness.main(main)
