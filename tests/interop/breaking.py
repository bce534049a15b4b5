"""How the tests of breaches make one and look at what was reported."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import pytest

from interop.interop_world import World
from interop.vddk_client import SECTOR, Client, Completions, VddkError

Case = Callable[[World], None]
LOGIN = {"serverName": "vc.example", "userName": "backup", "password": "s3cret-Zq9", "vmxSpec": "moref=vm-7"}
_keep: list[object] = []  # what a request that is still pending may write to


class Cases:
    """Breaches to be made: functions, and the reports (without process and thread) that each must lead to."""

    def __init__(self) -> None:
        self.params: list[Any] = []

    def breaks(self, *reports: str) -> Callable[[Case], Case]:
        """Decorates a case."""

        def mark(case: Case) -> Case:
            self.params.append(pytest.param(case, reports, id=case.__name__))
            return case

        return mark


def run_case(world: World, case: Case, reports: tuple[str, ...]) -> None:
    """The reports, all of them and no other; none tells a secret."""
    case(world)
    assert sentences(world) == list(reports)
    assert not any("s3cret" in line for line in world.standin.breaches())
    with pytest.raises(AssertionError, match="breaches of the VDDK's rules"):
        world.standin.check()


def sentences(world: World) -> list[str]:
    """`Call: sentence` of each report."""
    return [line.split(" ", 2)[2] for line in world.standin.breaches()]


def refused(code: int, client: Client, call: str, *arguments: Any) -> None:
    """The call fails with that code."""
    with pytest.raises(VddkError) as error:
        client.check(call, *arguments)
    assert error.value.code == code, error.value


def opened(world: World, *, read_only: bool = True, path: str = "") -> tuple[Client, Any]:
    client = world.start()
    connection = client.connect(client.params(**LOGIN), read_only)
    return client, client.open(connection, path or world.path, 4 if read_only else 0)


def buffer(sectors: int = 8) -> Any:
    made = ctypes.create_string_buffer(sectors * SECTOR)
    _keep.append(made)
    return made


def pending_read(client: Client, world: World, handle: Any) -> None:
    """One asynchronous request that stays in flight."""
    world.standin.script("every ReadAsync hang")
    done = Completions()
    _keep.append(done)
    client.queue(handle, 0, 8, buffer(), done, 1)


def in_thread(action: Callable[[], object]) -> None:
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()


def call_back(world: World, action: Callable[[Client, Any], object]) -> None:
    """Do something within a completion callback."""
    client, handle = opened(world)
    done = Completions()
    _keep.append(done)
    done.then = lambda tag, result: action(client, handle)
    client.queue(handle, 0, 8, buffer(), done, 0)
    client.check("Wait", handle)
