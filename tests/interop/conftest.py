"""A fresh stand-in with a disk and a client for each test."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from interop.interop_world import PATH, SECTORS, World
from interop.vddk_client import SECTOR, Client
from rig import random_disk
from standin import Standin

_keep: list[Client] = []  # threads of a library that was left running may still call back


@pytest.fixture
def world(tmp_path: Path) -> World:
    image = tmp_path / "disk.raw"
    random_disk(image, SECTORS * SECTOR + 100, random.Random(5))  # 100 bytes that are no sector
    with image.open("r+b") as file:
        file.seek(SECTORS * SECTOR - 1000)
        file.write(random.Random(6).randbytes(1100))
    standin = Standin(tmp_path / "vddk")
    standin.disk(PATH, image, uuid="60 00 c2 91 aa bb cc dd-00 11 22 33 44 55 66 77")
    client = Client(standin.library)
    _keep.append(client)
    return World(standin, image, client)
