"""Owns one question: what does a verified apply cost beside plain decompress-and-write? Measures no network.

Data: a real ext4 image (--mb of content), synced once at level 3 to a directory store on the same disk. Side
A: `warmspare apply` from nothing. Side B: plain_apply.py over the same pages in 1 MiB zstd frames at level
3, prepared beforehand, two threads, no verification. Both write a sparse file and end with it on the disk;
both are Python processes and pay for their own start. Each result is compared with the image after its run.
"""

from __future__ import annotations

import sys
from pathlib import Path

import harness
import plain_apply
from rigs.images import data


def main() -> None:
    options = harness.parser(__doc__).parse_args()
    command = harness.warmspare(options)
    image = harness.image(options)
    with harness.scratch(options, "receiver") as work:
        repo, payload, replica, plain = (work / name for name in ("repo", "payload", "replica.raw", "plain.raw"))
        store = ["--vm", "bench", "--repo", str(repo), "--json"]
        sync = [*command, "sync", str(image), *store, "--state", str(work / "state"), "--level", "3"]
        sent = harness.run([*sync, *harness.begin(command, repo)]).event("sync.done")["bytes_sent"]
        payload_bytes = plain_apply.prepare(image, payload)
        harness.sync_tree(work)

        def side(target: Path, run: list[str], source: Path) -> harness.Run:
            # A replica's state may lie beside it: whatever the command left there goes with it.
            for old in target.parent.glob(target.name + "*"):
                harness.fresh(old)
            for old in target.parent.glob("." + target.name + "*"):
                harness.fresh(old)
            for file in [source] if source.is_file() else sorted(source.rglob("*")):
                if file.is_file():
                    harness.warm(file)
            done = harness.run(run, durable=[target])
            if data.changed_extents(image, target, 4096):
                raise harness.BenchError(f"{target.name} is not the image: the figures would mean nothing")
            return done

        script = str(Path(plain_apply.__file__))
        sides = {
            "plain": lambda: side(plain, [sys.executable, script, str(payload), str(plain)], payload),
            "apply": lambda: side(replica, [*command, "apply", *store, "--to", str(replica)], repo),
        }
        done = harness.alternate(options.runs, sides)
        limit, own = harness.summary(done["plain"]), harness.summary(done["apply"])
        allocated = replica.stat().st_blocks / image.stat().st_blocks
        figures = [
            {"what": "decompress and write", **limit, "bytes_in": payload_bytes, "ratio": 1.0},
            {"what": "apply", **own, "bytes_in": sent, "ratio": own["wall_s"] / limit["wall_s"]},
            {"what": "replica's allocated size over the image's", "ratio": allocated},
        ]
    setting = {
        "data": f"{image.name}, {data.nonzero_bytes(image)} non-zero bytes",
        "store": "directory",
        "threads of the peer": plain_apply.THREADS,
        "runs": options.runs,
        "order": "A B A B",
        "goal": "at most 1.3 times the peer; allocated at most 1.01",
    }
    harness.report(options, "Apply from nothing beside decompress-and-write without verification", setting, figures)


if __name__ == "__main__":
    harness.main(main)
