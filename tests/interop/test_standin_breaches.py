"""Each rule about the process, parameters and connections, broken once: reported, and nothing dies of it."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from interop.breaking import LOGIN, Case, Cases, call_back, in_thread, opened, refused, run_case, sentences
from interop.interop_world import World
from interop.vddk_client import LOG, SESSION_ID, BlockList, ConnectParams, Info, VddkError
from standin import OTHERS

CASES = Cases()
breaks = CASES.breaks


# the process's life


@breaks("InitEx: called a second time")
def init_twice(world: World) -> None:
    client = world.start()
    refused(1, client, "InitEx", 8, 0, *client.callbacks, None, None)


@breaks("InitEx: called again after Exit: once a process is all")
def init_after_exit(world: World) -> None:
    world.start().raw.Exit()
    refused(1, world.client, "InitEx", 8, 0, *world.client.callbacks, None, None)


@breaks("InitEx: must come from the main thread")
def init_from_a_thread(world: World) -> None:
    in_thread(lambda: refused(3, world.client, "InitEx", 8, 0, *world.client.callbacks, None, None))


@breaks("InitEx: a callback is NULL", "InitEx: a callback is NULL", "InitEx: a callback is NULL")
def init_without_callbacks(world: World) -> None:
    for gone in range(3):
        callbacks = [LOG() if at == gone else each for at, each in enumerate(world.client.callbacks)]
        refused(3, world.client, "InitEx", 8, 0, *callbacks, None, None)


@breaks("InitEx: version 6.0 is not between 6.5 and 8.0", "InitEx: version 8.1 is not between 6.5 and 8.0")
def init_with_odd_versions(world: World) -> None:
    for version in ((6, 0), (8, 1)):
        refused(3, world.client, "InitEx", *version, *world.client.callbacks, None, None)


@breaks("InitEx: the configuration file cannot be read")
def init_with_a_missing_configuration(world: World) -> None:
    refused(3, world.client, "InitEx", 8, 0, *world.client.callbacks, None, str(world.image.with_name("none")).encode())
    config = world.image.with_name("config")
    config.write_text("tmpDirectory=/tmp\n")
    world.client.init(directory=str(world.standin.home).encode(), config=str(config).encode())


@breaks("InitEx: libDir is not a directory")
def init_with_a_missing_directory(world: World) -> None:
    refused(3, world.client, "InitEx", 8, 0, *world.client.callbacks, str(world.image).encode(), None)


@breaks("InitEx: libDir is not the folder above lib64")
def init_with_lib64_itself(world: World) -> None:
    lib64 = str(world.standin.home / "lib64").encode()
    refused(3, world.client, "InitEx", 8, 0, *world.client.callbacks, lib64, None)
    world.client.init(directory=str(world.standin.home).encode())


@breaks(*(f"{name}: not for a tool that only reads" for name in OTHERS))
def what_only_a_tool_that_writes_needs(world: World) -> None:
    world.start()
    library = ctypes.CDLL(str(world.standin.library))
    for name in OTHERS:
        assert library[f"VixDiskLib_{name}"](None, b"x", None, None, 0) & 0xFFFF == 6
    assert all(world.standin.counts()[name] == 1 for name in OTHERS)


@breaks("ListTransportModes: called before InitEx succeeded", "Open: called before InitEx succeeded")
def before_init(world: World) -> None:
    assert world.client.raw.ListTransportModes() is None
    refused(1, world.client, "Open", None, b"x", 4, ctypes.byref(ctypes.c_void_p()))


@breaks("AllocateConnectParams: called after Exit", "Exit: called after Exit")
def after_exit(world: World) -> None:
    world.start().raw.Exit()
    assert not world.client.raw.AllocateConnectParams()
    world.client.raw.Exit()


@breaks(
    "Exit: 1 handles not closed",
    "Exit: 1 connections not disconnected",
    "Exit: 1 connection parameters not given back by FreeConnectParams",
    "Exit: 2 infos not given back by FreeInfo",
    "Exit: 1 block lists not given back by FreeBlockList",
    "Exit: 1 texts not given back by FreeErrorText",
)
def leaks(world: World) -> None:
    client, handle = opened(world)
    for _ in range(2):
        client.check("GetInfo", handle, ctypes.byref(ctypes.POINTER(Info)()))
    client.check("QueryAllocatedBlocks", handle, 0, 128, 128, ctypes.byref(ctypes.POINTER(BlockList)()))
    client.raw.GetErrorText(4, None)
    client.raw.Exit()


@breaks("Exit: called from a callback")
def exit_from_a_callback(world: World) -> None:
    call_back(world, lambda client, handle: client.raw.Exit())


# parameters and connections


@breaks(
    "ConnectEx: the connection parameters are not from AllocateConnectParams, or were freed",
    "ConnectEx: the connection parameters are not from AllocateConnectParams, or were freed",
    "Cleanup: the connection parameters are NULL",
)
def foreign_parameters(world: World) -> None:
    client = world.start()
    gone = client.params(**LOGIN)
    client.raw.FreeConnectParams(gone)
    for params in (ctypes.byref(ConnectParams()), gone):
        refused(3, client, "ConnectEx", params, b"\1", None, None, ctypes.byref(ctypes.c_void_p()))
    number = ctypes.byref(ctypes.c_uint32())
    refused(3, client, "Cleanup", None, number, number)


@breaks(
    "FreeConnectParams: connection parameters was freed a second time",
    "FreeConnectParams: connection parameters was expected, not NULL",
)
def parameters_freed_twice(world: World) -> None:
    client = world.start()
    params = client.params()
    for given in (params, params, None):
        client.raw.FreeConnectParams(given)


@breaks("ConnectEx: no place for the connection", "Cleanup: no place for the numbers")
def no_place(world: World) -> None:
    client = world.start()
    params = client.params(**LOGIN)
    refused(3, client, "ConnectEx", params, b"\1", None, None, None)
    refused(3, client, "Cleanup", params, None, None)


@breaks(
    "PrepareForAccess: identity is not what was expected (another value was given)",
    "EndAccess: identity is not what was expected (another value was given)",
    "EndAccess: no identity",
    "PrepareForAccess: vmxSpec is not what was expected (another value was given)",
)
def another_identity(world: World) -> None:
    world.standin.expect(identity="warmspare", vmxSpec="moref=vm-7")
    client = world.start()
    params = client.params(**LOGIN)
    refused(18000, client, "PrepareForAccess", params, b"another")
    refused(18000, client, "EndAccess", params, b"another")
    refused(3, client, "EndAccess", params, None)
    params.contents.vmxSpec = b"moref=vm-8"
    refused(18000, client, "PrepareForAccess", params, b"warmspare")


@breaks(
    "ConnectEx: specType is neither VMX nor one that the stand-in has",
    "ConnectEx: a credType that the stand-in does not have",
)
def odd_types(world: World) -> None:
    client = world.start()
    for fields in ({"specType": 5}, {"credType": 4}):
        with pytest.raises(VddkError) as error:
            client.connect(client.params(**LOGIN | fields))
        assert error.value.code == 18000


@breaks("Disconnect: the connection: has handles that are not closed")
def disconnect_with_a_handle(world: World) -> None:
    client = world.start()
    connection = client.connect(client.params(**LOGIN))
    handle = client.open(connection, world.path)
    refused(3, client, "Disconnect", connection)
    client.check("Close", handle)
    client.check("Disconnect", connection)


@breaks(
    "Disconnect: the connection: disconnected before",
    "Disconnect: the connection: not a connection",
    "Open: the connection was disconnected",
    "Open: not a connection",
)
def connections_that_are_none(world: World) -> None:
    client = world.start()
    connection = client.connect(client.params(**LOGIN))
    client.check("Disconnect", connection)
    place = ctypes.byref(ctypes.c_void_p())
    refused(3, client, "Disconnect", connection)
    refused(3, client, "Disconnect", place)
    refused(3, client, "Open", connection, world.path.encode(), 4, place)
    refused(3, client, "Open", place, world.path.encode(), 4, place)


@breaks(
    "Open: an argument is NULL",
    "Open: an argument is NULL",
    "Open: a flag that is not known",
    "Open: more than one compression",
    "Open: for writing, on a read-only connection",
)
def opened_wrongly(world: World) -> None:
    client = world.start()
    connection, place, path = (
        client.connect(client.params(**LOGIN)),
        ctypes.byref(ctypes.c_void_p()),
        world.path.encode(),
    )
    refused(3, client, "Open", connection, None, 4, place)
    refused(3, client, "Open", connection, path, 4, None)
    refused(3, client, "Open", connection, path, 4 | 8, place)
    refused(3, client, "Open", connection, path, 4 | 16 | 32, place)
    refused(3, client, "Open", connection, path, 0, place)
    for flags in (4, 5, 6, 4 | 16, 4 | 32, 4 | 64):
        client.check("Close", client.open(connection, world.path, flags))


@breaks(
    "Close: Open and Close come from more than one thread",
    "Open: Open and Close come from more than one thread",
)
def opened_here_and_closed_there(world: World) -> None:
    client = world.start()
    connection = client.connect(client.params(**LOGIN))
    handle = client.open(connection, world.path)
    in_thread(lambda: client.check("Close", handle))
    in_thread(lambda: client.open(connection, world.path))


# the stand-in's own files


@breaks("standin.conf: line 1 is not understood")
def a_configuration_with_an_error(world: World) -> None:
    conf = world.standin.home / "standin.conf"
    conf.write_text("expect\tpasswrd\ts3cret-Zq9\n" + conf.read_text())
    world.start()


@breaks(*(f"standin.script: line {line} is not understood or cannot be done" for line in range(3, 14)))
def a_script_with_errors(world: World) -> None:
    world.standin.script(
        "# a comment\nevery * short\nevery Opne error 1\nat Read error 1\nat Read 1 fail 3\nevery FreeInfo error 1\n"
        "every Read error\nevery Read\nlatency\nlatency x\nlog loud x\nbandwidth 0\nevery Read slow 5 explode"
    )
    world.start()


@pytest.mark.parametrize(("case", "reports"), CASES.params)
def test_breach(world: World, case: Case, reports: tuple[str, ...]) -> None:
    run_case(world, case, reports)


@pytest.mark.parametrize("version", [(6, 5), (6, 7), (7, 0), (8, 0)])
def test_versions_that_are_known(world: World, version: tuple[int, int]) -> None:
    world.client.init(*version)
    world.client.raw.Exit()
    world.standin.check()


@pytest.mark.parametrize(
    "name",
    [
        "serverName",
        "userName",
        "password",
        "thumbPrint",
        "vmxSpec",
        "port",
        "nfcHostPort",
        "snapshotRef",
        "transportModes",
        "readOnly",
        "credType",
        "cookie",
        "key",
    ],
)
@pytest.mark.parametrize("given", ["another", "none"])
def test_unexpected_connect(world: World, name: str, given: str) -> None:
    """One parameter is not as expected: refused like a wrong login, named, its value told nowhere."""
    right: dict[str, Any] = {**LOGIN, "thumbPrint": "AA:BB", "port": 443, "nfcHostPort": 902, "credType": 1}
    if name in ("cookie", "key"):
        del right["password"]
        right |= {"cookie": "c00kie", "key": "k3y", "credType": SESSION_ID}
    how = {"snapshotRef": "snapshot-3", "transportModes": "nbd", "readOnly": True}
    world.standin.expect(**right, **how)
    client = world.start()
    wrong: Any = {"port": 9, "nfcHostPort": 9, "credType": 3, "readOnly": False}.get(name, f"wr0ng-{name}")
    if given == "none" and name not in ("port", "nfcHostPort", "credType", "readOnly"):
        wrong = None
    (how if name in how else right)[name] = wrong
    with pytest.raises(VddkError) as error:
        modes, snapshot = (how[each] and str(how[each]).encode() for each in ("transportModes", "snapshotRef"))
        client.connect(client.params(**right), bool(how["readOnly"]), snapshot=snapshot, modes=modes)
    assert error.value.code == 18000
    reports = sentences(world)
    what = "NULL was given" if wrong is None else "another value was given"
    assert reports[0] == f"ConnectEx: {name} is not what was expected ({what})"
    if name != "credType":
        assert len(reports) == 1
    text = (world.standin.home / "standin.breaches").read_text() + str(client.said)
    assert not any(value in text for value in ("wr0ng", "s3cret", "c00kie", "k3y"))
