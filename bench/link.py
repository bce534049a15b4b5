"""How much of a thin link does a first sync use?

A real image (--mb of content) is synced to SeaweedFS over a link of --mbit with --rtt-ms: two network namespaces joined
by a veth pair that is shaped (tbf) each way, and a proxy at the far end that adds the delay. Measured at the veth,
Ethernet headers and what was sent again included, from the tenth second of the command to its very end, publishing
included. Beside it, over the same link, as many bytes of noise through aiobotocore as it comes, in parts of 8 MiB, 8 at
once. Needs root (for the namespaces) and iproute2.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import harness
from rigs.links.linkrig import BUCKET, Far, far_server
from rigs.links.netns import why_not
from rigs.links.watch import Watch

SETTLED_S = 10.0
PART_BYTES = 8 << 20
_PEER = """
import asyncio, os, sys
from aiobotocore.session import get_session

url, size, part = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

async def main():
    noise = os.urandom(part)
    numbers = iter(range(1, -(-size // part) + 1))
    tags = {}
    async with get_session().create_client("s3", endpoint_url=url) as client:
        where = {"Bucket": sys.argv[4], "Key": "peer"}
        upload = (await client.create_multipart_upload(**where))["UploadId"]

        async def work():
            for number in numbers:
                body = noise[: min(part, size - (number - 1) * part)]
                answer = await client.upload_part(**where, UploadId=upload, PartNumber=number, Body=body)
                tags[number] = answer["ETag"]

        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(work())
        parts = [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)]
        await client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})

asyncio.run(main())
"""


def main() -> None:
    options = harness.parser(__doc__, runs=1, mb=256)
    options.add_argument("--mbit", type=float, default=20, help="of the link, each way (20)")
    options.add_argument("--rtt-ms", type=float, default=80, help="of the link (80)")
    given = options.parse_args()
    if reason := why_not():
        raise harness.BenchError(reason)
    image = harness.image(given)
    figures: list[dict[str, Any]] = []
    for number in range(given.runs):
        with harness.scratch(given, "link") as work, far_server(work, latency_s=given.rtt_ms / 2000) as far:
            far.link.shape(up=f"{given.mbit:g}mbit", down=f"{given.mbit:g}mbit")
            harness.warm(image)
            ours, out = _measured(far, given.mbit, lambda far=far, n=number: far.sync(image, vm=f"vm{n}"))
            sent = json.loads(out.splitlines()[-1])["bytes_sent"]
            figures.append({"client": "warmspare sync", "bytes_sent": sent, **ours})
            what = (_PEER, far.endpoint_url, sent, PART_BYTES, BUCKET)
            peer, _ = _measured(far, given.mbit, lambda far=far, w=what: far.python(*w, stdout=subprocess.PIPE))
            figures.append({"client": "aiobotocore", "bytes_sent": sent, **peer})
    setting = {
        "data": image.name,
        "store": "SeaweedFS over HTTP",
        "link": f"{given.mbit:g} Mbit/s, {given.rtt_ms:g} ms",
        "measured": f"at the veth, from second {SETTLED_S:.0f} of the command to its end",
        "goal": "a share of the link of at least 0.95",
    }
    harness.report(given, "How much of a thin link a first sync uses", setting, figures)


def _measured(far: Far, mbit: float, start: Callable[[], subprocess.Popen[bytes]]) -> tuple[dict[str, Any], bytes]:
    """What a program that sends used of the link; its output."""
    with Watch(far.link.sender) as watch:
        began = time.monotonic()
        with start() as process:
            out, _ = process.communicate()
        ended = time.monotonic()
    if process.returncode:
        raise harness.BenchError(f"the sender ended with {process.returncode}: {out[-500:]!r}")
    if ended - began < 2 * SETTLED_S:
        raise harness.BenchError("it took too little time to tell: give more --mb or less --mbit")
    share = watch.rate(began + SETTLED_S, ended) / (mbit * 1e6 / 8)
    return {"share_of_link": share, "wall_s": ended - began, "wire_bytes": watch.total}, out


if __name__ == "__main__":
    harness.main(main)
