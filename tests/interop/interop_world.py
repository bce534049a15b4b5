"""A stand-in with a disk of an odd size, and a client of it: in this process or in one that may die."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from interop.vddk_client import Client
from rigs.paths import TESTS
from standin import Standin

PATH = "[store 1] vm/vm.vmdk"
SECTORS = 8 * 2048 + 77  # neither whole MiB nor whole chunks


@dataclass(slots=True)
class World:
    """A stand-in with one disk, and a client that has loaded it."""

    standin: Standin
    image: Path
    client: Client
    path: str = PATH

    def start(self) -> Client:
        self.client.init()
        return self.client

    def run(self, body: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """The statements in a process of their own, after `c = Client(…); c.init()`; `path` and `image` are known."""
        program = (
            f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
            "import ctypes, threading\nfrom interop.vddk_client import *\n"
            f"path, image, home = {self.path!r}, {str(self.image)!r}, {str(self.standin.home)!r}\n"
            f"c = Client({str(self.standin.library)!r})\nc.init()\n" + textwrap.dedent(body)
        )
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=timeout)
