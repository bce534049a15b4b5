"""What the stand-in's script makes go wrong, at which call, and that it counts what it did."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import threading
import time
from typing import Any

import pytest

from interop.breaking import LOGIN, buffer, opened, refused
from interop.interop_world import SECTORS, World
from interop.vddk_client import ASYNC, SECTOR, BlockList, Client, Completions, Info, VddkError
from standin import CALLS, TOTAL

SILENT = ("Exit", "FreeErrorText", "FreeConnectParams", "FreeInfo")  # cannot fail
POINTERS = ("GetErrorText", "AllocateConnectParams", "ListTransportModes", "GetTransportMode")

# A client in its own process that calls every function once, in order, and prints the name of each that returned.
ORDERLY = """
def did(name): print(name, flush=True)
did("InitEx")
params = c.params(serverName="vc"); did("AllocateConnectParams")
number = ctypes.byref(ctypes.c_uint32())
c.check("Cleanup", params, number, number); did("Cleanup")
c.check("PrepareForAccess", params, b"x"); did("PrepareForAccess")
connection = c.connect(params, False); did("ConnectEx")
h = c.open(connection, path, 0); did("Open")
c.raw.ListTransportModes(); did("ListTransportModes")
c.raw.GetTransportMode(h); did("GetTransportMode")
text = c.raw.GetErrorText(4, None); did("GetErrorText")
c.raw.FreeErrorText(text); did("FreeErrorText")
info = ctypes.POINTER(Info)(); c.check("GetInfo", h, ctypes.byref(info)); did("GetInfo")
c.raw.FreeInfo(info); did("FreeInfo")
blocks = ctypes.POINTER(BlockList)()
c.check("QueryAllocatedBlocks", h, 0, 128, 128, ctypes.byref(blocks)); did("QueryAllocatedBlocks")
c.raw.FreeBlockList(blocks); did("FreeBlockList")
b = ctypes.create_string_buffer(512); done = Completions()
c.check("Read", h, 0, 1, b); did("Read")
c.check("Write", h, 0, 1, b); did("Write")
c.queue(h, 0, 1, b, done, 0); did("ReadAsync")
c.check("Wait", h); did("Wait")
assert c.raw.WriteAsync(h, 0, 1, b, done.function, 0) == ASYNC; did("WriteAsync")
c.check("Wait", h)
assert len(done.results) == 2
c.check("Flush", h); did("Flush")
c.check("Close", h); did("Close")
c.check("Disconnect", connection); did("Disconnect")
c.check("EndAccess", params, b"x"); did("EndAccess")
c.raw.FreeConnectParams(params); did("FreeConnectParams")
c.raw.Exit(); did("Exit")
"""


def test_the_orderly_client_calls_everything(world: World) -> None:
    done = world.run(ORDERLY)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(CALLS)
    world.standin.check()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("action", ["crash", "panic", "exit"])
def test_deaths(world: World, call: str, action: str) -> None:
    world.standin.script(f"at {call} 1 {action}" + " out of luck" * (action == "panic"))
    done = world.run(ORDERLY)
    code = {"crash": -signal.SIGSEGV, "panic": -signal.SIGABRT, "exit": 0}[action]
    assert done.returncode == code, done.stderr
    assert call not in done.stdout.split()
    assert world.standin.hits()[call] == world.standin.hits()[TOTAL] == 1
    world.standin.check()


def test_a_panic_says_so_first(world: World) -> None:
    world.standin.script("at ListTransportModes 1 panic 100% out of luck")
    done = world.run("""
        class Aloud(list):
            def append(self, item):
                print(*item, flush=True)

        c.said = Aloud()
        c.raw.ListTransportModes()
    """)
    assert done.returncode == -signal.SIGABRT
    assert done.stdout == "panic Panic: 100% out of luck (in VixDiskLib)\n\n"


def test_a_hang_ends_only_by_a_kill(world: World) -> None:
    world.standin.script("at GetTransportMode 1 hang")
    timeout_s = 1.5
    while True:  # until a process came as far as that
        with pytest.raises(subprocess.TimeoutExpired):
            world.run(ORDERLY, timeout=timeout_s)
        if world.standin.hits()["GetTransportMode"]:
            break
        timeout_s *= 2
    assert world.standin.counts()["GetTransportMode"] == world.standin.hits()["GetTransportMode"] == 1
    assert world.standin.counts()["GetErrorText"] == 0


def test_a_request_that_is_never_completed(world: World) -> None:
    client, handle = opened(world)
    world.standin.script("at ReadAsync 2 hang")
    done = Completions()
    for tag in range(3):
        client.queue(handle, 0, 8, buffer(), done, tag)
    deadline = time.monotonic() + 120
    while len(done.results) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    waiter = threading.Thread(target=lambda: client.raw.Wait(handle), daemon=True)
    waiter.start()
    waiter.join(0.2)
    assert waiter.is_alive() and sorted(done.results) == [(0, 0), (2, 0)]


def each_call(client: Client, world: World) -> dict[str, Any]:
    """Every function that can fail, by a function without arguments that calls it rightly."""
    number = ctypes.byref(ctypes.c_uint32())
    params = client.params(**LOGIN)
    connection = client.connect(params, False)
    handle = client.open(connection, world.path, 0)
    raw, memory, done = client.raw, buffer(1), Completions()
    place: dict[str, Any] = {"info": ctypes.POINTER(Info)(), "list": ctypes.POINTER(BlockList)(), "done": done}
    return {
        "GetErrorText": lambda: raw.GetErrorText(1, None),
        "AllocateConnectParams": raw.AllocateConnectParams,
        "ConnectEx": lambda: raw.ConnectEx(params, b"\0", None, None, ctypes.byref(ctypes.c_void_p())),
        "PrepareForAccess": lambda: raw.PrepareForAccess(params, b"x"),
        "EndAccess": lambda: raw.EndAccess(params, b"x"),
        "Cleanup": lambda: raw.Cleanup(params, number, number),
        "ListTransportModes": raw.ListTransportModes,
        "Open": lambda: raw.Open(connection, world.path.encode(), 0, ctypes.byref(ctypes.c_void_p())),
        "Flush": lambda: raw.Flush(handle),
        "GetInfo": lambda: raw.GetInfo(handle, ctypes.byref(place["info"])),
        "GetTransportMode": lambda: raw.GetTransportMode(handle),
        "Read": lambda: raw.Read(handle, 0, 1, memory),
        "Write": lambda: raw.Write(handle, 0, 1, memory),
        "ReadAsync": lambda: raw.ReadAsync(handle, 0, 1, memory, place["done"].function, 0),
        "WriteAsync": lambda: raw.WriteAsync(handle, 0, 1, memory, place["done"].function, 0),
        "Wait": lambda: raw.Wait(handle),
        "FreeBlockList": lambda: raw.FreeBlockList(place["list"]),
        "QueryAllocatedBlocks": lambda: raw.QueryAllocatedBlocks(handle, 0, 128, 128, ctypes.byref(place["list"])),
        "Close": lambda: raw.Close(handle),
        "Disconnect": lambda: raw.Disconnect(connection),
    }


def test_every_call_fails_when_told(world: World) -> None:
    client = world.start()
    calls = each_call(client, world)
    assert set(calls) == set(CALLS) - set(SILENT) - {"InitEx"}
    calls["QueryAllocatedBlocks"]()  # the list that FreeBlockList gives back
    for name, call in calls.items():
        before = world.standin.counts()[name]
        world.standin.script(f"at {name} {before + 1} error 14009")
        result = call()
        assert not result if name in POINTERS else result & 0xFFFF == 14009, name
        assert world.standin.hits()[name] == 1
    world.standin.check()


def test_init_can_fail_and_be_tried_again(world: World) -> None:
    world.standin.script("at InitEx 1 error 0x4")
    refused(4, world.client, "InitEx", 8, 0, *world.client.callbacks, None, None)
    world.start().raw.Exit()
    world.standin.check()


def test_close_and_disconnect_that_fail_have_freed(world: World) -> None:
    client = world.start()
    params = client.params(**LOGIN)
    connection = client.connect(params)
    handle = client.open(connection, world.path)
    world.standin.script("every Close error 14010\nevery Disconnect error 14010")
    refused(14010, client, "Close", handle)
    refused(14010, client, "Disconnect", connection)
    client.raw.FreeConnectParams(params)
    client.raw.Exit()
    world.standin.check()


@pytest.mark.parametrize("mode", ["nbd", "san"])
def test_a_request_accepted_and_then_failed(world: World, mode: str) -> None:
    world.standin.modes(mode)
    client, handle = opened(world, read_only=False)
    world.standin.script("every ReadAsync fail 14011\nevery WriteAsync fail 2")
    done, memory = Completions(), buffer()
    client.queue(handle, 0, 8, memory, done, 1)
    client.check("Wait", handle)
    assert client.raw.WriteAsync(handle, 0, 8, memory, done.function, 2) == ASYNC
    client.check("Wait", handle)
    assert done.results == [(1, 14011), (2, 2)]
    assert memory.raw == bytes(8 * SECTOR)


@pytest.mark.parametrize("call", ["Read", "ReadAsync"])
@pytest.mark.parametrize("action", ["short", "wrong"])
def test_bytes_that_are_not_the_disks(world: World, call: str, action: str) -> None:
    client, handle = opened(world)
    world.standin.script(f"at {call} 2 {action}")
    start = SECTORS - 8  # random data
    expected = world.image.read_bytes()[start * SECTOR :][:4096]
    for wrong in (False, True, False):
        memory, done = buffer(), Completions()
        ctypes.memset(memory, 0xEE, 4096)
        if call == "Read":
            client.check("Read", handle, start, 8, memory)
        else:
            client.queue(handle, start, 8, memory, done, 0)
            client.check("Wait", handle)
            assert done.results == [(0, 0)]
        if not wrong:
            assert memory.raw == expected
        elif action == "short":
            assert memory.raw == expected[:2048] + b"\xee" * 2048
        else:
            assert [i for i in range(4096) if memory.raw[i] != expected[i]] == [0, 2048, 4095]


def test_half_a_list_and_half_a_disk(world: World) -> None:
    client, handle = opened(world)
    whole = SECTORS // 128 * 128
    blocks = client.blocks(handle, 0, whole, 128)
    assert len(blocks) >= 4
    world.standin.script("every QueryAllocatedBlocks short\nevery GetInfo short")
    assert client.blocks(handle, 0, whole, 128) == blocks[: len(blocks) - len(blocks) // 2]
    offset, length = blocks[0]
    assert client.blocks(handle, offset, length, 128) == []  # at least one entry is missing
    assert client.info(handle)["capacity"] == SECTORS // 2


def test_nonsense(world: World) -> None:
    client, handle = opened(world)
    whole = SECTORS // 128 * 128
    blocks = client.blocks(handle, 0, whole, 128)
    world.standin.script("every * nonsense")
    done = Completions()
    client.queue(handle, 0, 8, buffer(), done, 7)
    world.standin.script("every * nonsense\n# but")
    client.raw.Wait(handle)
    assert done.results == [(7, 0), (7, 0)]
    answers = [client_blocks(client, handle, whole) for _ in range(2)]
    beyond, unsorted = answers
    assert beyond[:-1] == blocks and beyond[-1][0] >= SECTORS
    assert sorted(unsorted) == blocks != unsorted
    pointer = ctypes.POINTER(Info)()
    assert client.raw.GetInfo(handle, ctypes.byref(pointer)) == 0 and pointer.contents.capacity == 0
    assert client.raw.GetTransportMode(handle) is None and client.raw.ListTransportModes() is None
    assert client.raw.GetErrorText(1, None) is None
    refused(1, client, "Read", handle, 0, 8, buffer())


def client_blocks(client: Client, handle: Any, whole: int) -> list[tuple[int, int]]:
    """As Client.blocks, whose FreeBlockList may fail here."""
    pointer = ctypes.POINTER(BlockList)()
    client.check("QueryAllocatedBlocks", handle, 0, whole, 128, ctypes.byref(pointer))
    first = ctypes.addressof(pointer.contents) + BlockList.blocks.offset
    found = (ctypes.c_uint64 * (2 * pointer.contents.numBlocks)).from_address(first)
    blocks = list(zip(found[::2], found[1::2], strict=True))
    client.raw.FreeBlockList(pointer)
    return blocks


@pytest.mark.parametrize("mode", ["nbd", "san"])
def test_an_idle_handle_is_dropped_until_it_is_closed(world: World, mode: str) -> None:
    world.standin.modes(mode)
    client, handle = opened(world)
    world.standin.script("idle-drop 1")
    for _ in range(4):  # a handle that is used stays
        time.sleep(0.3)
        client.read(handle, 0, 1)
    time.sleep(1.2)
    for _ in range(2):
        refused(14010, client, "Read", handle, 0, 8, buffer())
        done = Completions()
        client.queue(handle, 0, 8, buffer(), done, 1)
        client.check("Wait", handle)
        assert done.results == [(1, 14010)]
    world.standin.script("# none")
    with pytest.raises(VddkError):
        client.blocks(handle, 0, 128, 128)
    client.check("Close", handle)
    connection = client.connect(client.params(**LOGIN))
    client.read(client.open(connection, world.path), 0, 1)
    world.standin.check()


def test_rules_count_calls_and_all_calls(world: World) -> None:
    world.standin.script("from ListTransportModes 3 error 1\nat * 8 error 2")
    client = world.start()  # 1
    modes = [client.raw.ListTransportModes() for _ in range(4)]  # 2 to 5
    assert modes == [b"nbdssl:nbd"] * 2 + [None] * 2
    assert [bool(client.raw.AllocateConnectParams()) for _ in range(4)] == [True, True, False, True]  # 8
    assert world.standin.hits() == dict.fromkeys(CALLS, 0) | {
        "ListTransportModes": 2,
        "AllocateConnectParams": 1,
        TOTAL: 3,
    }
    world.standin.check()


def test_actions_add_up_and_the_first_rule_holds(world: World) -> None:
    world.standin.script("at ListTransportModes 1 slow 200 error 4\nevery ListTransportModes slow 1000000")
    client = world.start()
    begun = time.monotonic()
    assert client.raw.ListTransportModes() is None
    assert 0.2 <= time.monotonic() - begun < 100


def test_log_lines_come_from_several_threads(world: World) -> None:
    world.standin.script("log warn 100% %s %n of it\nlog log quiet")
    client = world.start()
    said = [text for level, text in client.said if level == "warn"]
    assert not said  # not before InitEx has taken the callbacks
    for _ in range(40):
        client.raw.ListTransportModes()
    said = [text for level, text in client.said if level == "warn"]
    assert len(said) >= 8 and all(text.startswith("100% %s %n of it [") for text in said)
    assert len({text.split("thread ")[1] for text in said}) > 1
    assert any(text.startswith("quiet") for level, text in client.said if level == "log")
    world.standin.check()


def test_the_script_changes_while_it_runs(world: World) -> None:
    client = world.start()
    for text, answer in (("every * error 1", None), ("", b"nbdssl:nbd"), ("every ListTransportModes error 1", None)):
        world.standin.script(text)
        assert client.raw.ListTransportModes() == answer
    (world.standin.home / "standin.script").unlink()
    time.sleep(0.01)
    assert client.raw.ListTransportModes() == b"nbdssl:nbd"
    world.standin.check()
