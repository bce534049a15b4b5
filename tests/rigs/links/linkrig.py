"""An S3 server at the far end of a shaped link, and syncs that reach it from the near end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import warmspare
from rigs.host.hearing import heard
from rigs.links.netns import Link
from rigs.links.proxy import Proxy
from servers import Seaweed, make_bucket

BUCKET = "tests"
REPO = f"s3://{BUCKET}/p"


@dataclass(frozen=True, slots=True)
class Far:
    """The link and what stands behind it. endpoint_url: as the near end reaches it. environment: of AWS clients there;
    programs that run with it share no limit with the rest of this host."""

    link: Link
    endpoint_url: str
    environment: dict[str, str]
    home: Path

    def start(self, *command: object, **more: Any) -> subprocess.Popen[bytes]:
        """`warmspare …` at the near end."""
        program = [sys.executable, "-m", "warmspare", *map(str, command)]
        return self.link.sender.popen(*program, env=self._environment(), **more)

    def sync(self, disk: Path, *more: object, vm: str = "vm", **how: Any) -> subprocess.Popen[bytes]:
        """The first sync of a VM, of a disk there; it writes its events to stdout."""
        command = ["sync", disk, "--vm", vm, "--new", "--repo", REPO, "--state", self.home / f"state-{vm}", "--json"]
        how = {"stdout": subprocess.PIPE, **how}
        return self.start(*command, *more, **how)

    def python(self, code: str, *arguments: object, **more: Any) -> subprocess.Popen[bytes]:
        """A program at the near end, with the package at hand."""
        return self.link.sender.popen(sys.executable, "-c", code, *arguments, env=self._environment(), **more)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        package = str(Path(warmspare.__file__).parents[1])
        mine = {"PYTHONPATH": package, "XDG_STATE_HOME": str(self.home / "xdg"), **self.environment}
        return kept | mine | {"AWS_ENDPOINT_URL": self.endpoint_url}


def last_event(process: subprocess.Popen[bytes], timeout: float) -> dict[str, Any]:
    """Wait for a sync that must succeed; its last event."""
    out, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, out[-2000:]
    event: dict[str, Any] = heard(out.splitlines()[-1])
    return event


@contextmanager
def far_server(home: Path, *, latency_s: float | None = None) -> Iterator[Far]:
    """A SeaweedFS at the far end, with an empty repository; with a latency (each way) behind a proxy that adds it. Not
    shaped yet."""
    with ExitStack() as stack:
        link = stack.enter_context(Link())
        (home / "weed").mkdir()
        host = link.server.address if latency_s is None else "127.0.0.1"
        seaweed = Seaweed(home / "weed", host=host, prefix=link.server.prefix)
        stack.callback(seaweed.kill)
        seaweed.start(wait=False)
        link.server.call(seaweed.wait_ready)
        link.server.call(lambda: make_bucket(seaweed.server, BUCKET))
        url = seaweed.server.endpoint_url
        if latency_s is not None:
            port = int(url.rsplit(":", 1)[1])
            proxy = stack.enter_context(Proxy(port, listen=link.server.address, netns=link.server.path))
            proxy.faults.latency_s = latency_s
            url = proxy.url
        far = Far(link, url, seaweed.server.environment, home)
        with far.start("init", REPO) as init:
            assert init.wait(60) == 0
        yield far
