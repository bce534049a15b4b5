"""Each rule about handles and what they give out, broken once: reported, and nothing dies of it."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pytest

from interop.breaking import LOGIN, Case, Cases, buffer, call_back, in_thread, opened, pending_read, refused, run_case
from interop.interop_world import SECTORS, World
from interop.vddk_client import SECTOR, BlockList, Client, Completions, Info

CASES = Cases()
breaks = CASES.breaks


@breaks(
    "Read: the handle: used after Close",
    "Close: the handle: used after Close",
    "GetInfo: the handle: used after Close",
    "GetTransportMode: the handle: not a handle",
    "Wait: the handle: not a handle",
)
def handles_that_are_none(world: World) -> None:
    client, handle = opened(world)
    client.check("Close", handle)
    refused(3, client, "Read", handle, 0, 1, buffer())
    refused(3, client, "Close", handle)
    refused(3, client, "GetInfo", handle, ctypes.byref(ctypes.POINTER(Info)()))
    assert client.raw.GetTransportMode(buffer()) is None
    refused(3, client, "Wait", None)


@breaks("Read: the handle: used by two threads at once", "GetTransportMode: the handle: used by two threads at once")
def two_threads_on_a_handle(world: World) -> None:
    world.standin.script("at Read 1 slow 800")
    client, handle = opened(world)
    first = threading.Thread(target=lambda: client.check("Read", handle, 0, 8, buffer()))
    first.start()
    while not world.standin.counts()["Read"]:
        pass
    threading.Event().wait(0.2)
    refused(3, client, "Read", handle, 0, 8, buffer())
    assert client.raw.GetTransportMode(handle) is None
    first.join()
    client.check("Read", handle, 0, 8, buffer())  # one after the other is no breach


@breaks("ReadAsync: the handle: used from a callback", "Wait: the handle: used from a callback")
def a_handle_in_its_callback(world: World) -> None:
    def action(client: Client, handle: Any) -> None:
        refused(3, client, "ReadAsync", handle, 0, 8, buffer(), Completions().function, 0)
        refused(3, client, "Wait", handle)

    call_back(world, action)


@breaks("GetInfo: the handle: used from a callback", "Close: the handle: used from a callback")
def a_handle_in_the_callback_of_a_mode_that_waits(world: World) -> None:
    world.standin.modes("san")

    def action(client: Client, handle: Any) -> None:
        refused(3, client, "GetInfo", handle, ctypes.byref(ctypes.POINTER(Info)()))
        refused(3, client, "Close", handle)

    call_back(world, action)


@breaks("Close: 1 asynchronous requests are pending; Wait comes first")
def closed_while_pending(world: World) -> None:
    client, handle = opened(world)
    pending_read(client, world, handle)
    client.check("Close", handle)


@breaks(
    "Read: 0 sectors",
    f"Read: 1 sectors from {SECTORS} on go beyond the capacity of {SECTORS}",
    f"Read: 2 sectors from {SECTORS - 1} on go beyond the capacity of {SECTORS}",
    f"Read: {2**64 - 1} sectors from 5 on go beyond the capacity of {SECTORS}",
    f"ReadAsync: 1 sectors from {2**64 - 1} on go beyond the capacity of {SECTORS}",
)
def ranges(world: World) -> None:
    client, handle = opened(world)
    refused(3, client, "Read", handle, 0, 0, buffer())
    refused(16007, client, "Read", handle, SECTORS, 1, buffer())
    refused(16007, client, "Read", handle, SECTORS - 1, 2, buffer())
    refused(16007, client, "Read", handle, 5, 2**64 - 1, buffer())
    refused(16007, client, "ReadAsync", handle, 2**64 - 1, 1, buffer(), Completions().function, 0)


@breaks(
    "Read: the buffer is NULL",
    "ReadAsync: the buffer is NULL",
    "ReadAsync: the callback is NULL",
    "GetInfo: no place for the info",
    "QueryAllocatedBlocks: no place for the list",
)
def null_arguments(world: World) -> None:
    client, handle = opened(world)
    done = Completions()
    refused(3, client, "Read", handle, 0, 1, None)
    refused(3, client, "ReadAsync", handle, 0, 1, None, done.function, 0)
    refused(3, client, "ReadAsync", handle, 0, 1, buffer(), type(done.function)(), 0)
    refused(3, client, "GetInfo", handle, None)
    refused(3, client, "QueryAllocatedBlocks", handle, 0, 128, 128, None)


@breaks(
    "ReadAsync: the buffer overlaps one that is in flight",
    "Read: the buffer overlaps one that is in flight",
)
def overlapping_buffers(world: World) -> None:
    client, handle = opened(world)
    world.standin.script("every ReadAsync slow 300")
    memory, done = buffer(24), Completions()
    at = ctypes.addressof(memory)
    client.queue(handle, 0, 8, at, done, 0)
    client.queue(handle, 0, 8, at + 8 * SECTOR, done, 1)  # beside it
    refused(3, client, "ReadAsync", handle, 0, 8, at + 15 * SECTOR, done.function, 2)
    refused(3, client, "Read", handle, 0, 1, at)
    client.check("Wait", handle)
    client.check("Read", handle, 0, 1, at)
    assert len(done.results) == 2


@breaks(
    "QueryAllocatedBlocks: the chunk is smaller than 128 sectors",
    "QueryAllocatedBlocks: 0 sectors",
    "QueryAllocatedBlocks: start or number of sectors is not a multiple of the chunk",
    "QueryAllocatedBlocks: start or number of sectors is not a multiple of the chunk",
    "QueryAllocatedBlocks: more than 512 Ki chunks",
    "QueryAllocatedBlocks: goes beyond the capacity",
)
def queries(world: World) -> None:
    large = world.image.with_name("large.raw")
    with large.open("wb") as file:
        file.truncate((128 * (512 * 1024 + 2)) * SECTOR)
    world.standin.disk("large", large)
    client, handle = opened(world, path="large")
    end, most = 128 * (512 * 1024 + 2), 128 * 512 * 1024
    place = ctypes.byref(ctypes.POINTER(BlockList)())
    for start, sectors, chunk in (
        (0, 64, 64),
        (0, 0, 128),
        (64, 128, 128),
        (0, 200, 128),
        (0, most + 128, 128),
        (end - 128, 256, 128),
    ):
        refused(3, client, "QueryAllocatedBlocks", handle, start, sectors, chunk, place)
    assert client.blocks(handle, 0, most, 128) == [] == client.blocks(handle, 256, most, 128)


@breaks("QueryAllocatedBlocks: asynchronous requests are pending")
def query_while_pending(world: World) -> None:
    client, handle = opened(world)
    pending_read(client, world, handle)
    refused(3, client, "QueryAllocatedBlocks", handle, 0, 128, 128, ctypes.byref(ctypes.POINTER(BlockList)()))


@breaks(
    "FreeInfo: an info was freed a second time",
    "FreeBlockList: a block list was freed a second time",
    "FreeErrorText: a text was freed a second time",
    "FreeErrorText: a text was freed that this library did not give out, or was freed before",
    "FreeInfo: an info was expected, not NULL",
)
def freed_twice(world: World) -> None:
    client, handle = opened(world)
    info, blocks = ctypes.POINTER(Info)(), ctypes.POINTER(BlockList)()
    client.check("GetInfo", handle, ctypes.byref(info))
    client.check("QueryAllocatedBlocks", handle, 0, 128, 128, ctypes.byref(blocks))
    text = client.raw.GetErrorText(4, None)
    for function, given in (("FreeInfo", info), ("FreeBlockList", blocks), ("FreeErrorText", text)):
        getattr(client.raw, function)(given)
        getattr(client.raw, function)(given)
    client.raw.FreeErrorText(ctypes.addressof(buffer()))
    client.raw.FreeInfo(None)


@breaks("Write: the handle is read-only", "WriteAsync: the handle is read-only", "Flush: the handle is read-only")
def written_though_read_only(world: World) -> None:
    client, handle = opened(world)
    before = world.image.read_bytes()
    refused(3, client, "Write", handle, 0, 1, buffer())
    refused(3, client, "WriteAsync", handle, 0, 1, buffer(), Completions().function, 0)
    refused(3, client, "Flush", handle)
    assert world.image.read_bytes() == before


@pytest.mark.parametrize(("case", "reports"), CASES.params)
def test_breach(world: World, case: Case, reports: tuple[str, ...]) -> None:
    run_case(world, case, reports)


def test_the_rules_as_nbdkit_reads_them(world: World) -> None:
    """Asking while requests are pending, an area that ends beyond the disk, and Open and Close from several threads."""
    world.standin.rules("nbdkit")
    client, handle = opened(world)
    pending_read(client, world, handle)
    found = client.blocks(handle, 0, 128 * 128, 128)
    assert found[-1][0] + found[-1][1] == 64 * 2048 > SECTORS
    world.standin.script("")
    connection = client.connect(client.params(**LOGIN))
    in_thread(lambda: client.check("Close", client.open(connection, world.path)))
    world.standin.check()


def test_calls_that_succeed_and_give_nothing(world: World) -> None:
    client, handle = opened(world)
    raw, params = client.raw, client.params(**LOGIN)
    connection = client.connect(params)
    calls = (
        "ConnectEx",
        "Open",
        "GetInfo",
        "QueryAllocatedBlocks",
        "ReadAsync",
        "AllocateConnectParams",
        "GetTransportMode",
        "ListTransportModes",
        "GetErrorText",
    )
    world.standin.script("\n".join(f"every {call} null" for call in calls))
    place, info, blocks = ctypes.c_void_p(1), ctypes.pointer(Info()), ctypes.pointer(BlockList())
    assert raw.ConnectEx(params, b"\1", None, None, ctypes.byref(place)) == 0 and not place
    place = ctypes.c_void_p(1)
    assert raw.Open(connection, world.path.encode(), 4, ctypes.byref(place)) == 0 and not place
    assert raw.GetInfo(handle, ctypes.byref(info)) == 0 and not info
    assert raw.QueryAllocatedBlocks(handle, 0, 128, 128, ctypes.byref(blocks)) == 0 and not blocks
    done = Completions()
    assert raw.ReadAsync(handle, 0, 8, buffer(), done.function, 1) == 0 and not done.results
    assert not raw.AllocateConnectParams() and raw.GetTransportMode(handle) is None
    assert raw.ListTransportModes() is None and not raw.GetErrorText(1, None)
    client.check("Disconnect", connection)  # nothing was opened on it
    raw.FreeConnectParams(params)
    world.standin.check()
