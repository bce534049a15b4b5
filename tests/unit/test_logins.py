"""Logins that were refused: who waits, who is told, what other processes know, and when it is over."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from rigs.host.hearing import Record, recorder
from warmspare.errors import ConfigError, SourceError
from warmspare.observe.events import Events
from warmspare.source import logins as module
from warmspare.source.logins import Account, Logins
from warmspare.source.vddk.vddk_errors import CallFailed
from warmspare.state.notes import KEPT_S, Notes

ACCOUNT = Account("vc.example", 443, "Backup@vsphere.local")
SAME = Account("VC.Example.", 443, "backup@VSPHERE.local")
SECRET = "a-pass-word"


async def attempt(logins: Logins, *, right: bool, account: Account = ACCOUNT, secret: str = SECRET) -> None:
    async with logins.turn(account, secret) as turn:
        await asyncio.sleep(0.01)
        if not right:
            raise turn.refused("vCenter", f"no {secret}")
        turn.accepted()


async def refused(logins: Logins, match: str = "refused the login", **how: str | Account) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        await attempt(logins, right=True, **how)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


async def test_of_twenty_at_once_one_tries(tmp_path: Path) -> None:
    here, there = Logins(Notes(tmp_path)), Logins(Notes(tmp_path))
    tried = 0

    async def one(logins: Logins) -> None:
        nonlocal tried
        async with logins.turn(ACCOUNT, SECRET) as turn:
            tried += 1
            await asyncio.sleep(0.05)
            raise turn.refused("vCenter", "no")

    ended = await asyncio.gather(*(one(each) for each in (here, there) * 10), return_exceptions=True)
    assert tried == 1 and all(isinstance(error, ConfigError) for error in ended)
    await refused(here, account=SAME)
    await refused(Logins(Notes(tmp_path)))
    await attempt(here, right=True, secret="another")
    await attempt(here, right=True, account=Account("vc.example", 8443, ACCOUNT.user))
    text = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert SECRET.encode() not in text and b"Backup" not in text


async def test_it_ends_when_somebody_was_let_in_or_with_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = Logins(Notes(tmp_path)), Logins(Notes(tmp_path))
    with pytest.raises(ConfigError):
        await attempt(here, right=False)
    await refused(there)
    await attempt(Logins(Notes(tmp_path), again=True), right=True)  # doctor
    await attempt(here, right=True)
    await attempt(there, right=True)
    with pytest.raises(ConfigError):
        await attempt(here, right=False)
    await refused(there)
    now = time.time()
    for later in (module.HELD_S + 5, -3600.0):  # the hour is over; or the clock was put back
        with monkeypatch.context() as patch:
            patch.setattr(module.time, "time", lambda later=later: now + later)
            await there.check(ACCOUNT, SECRET)
    await refused(there)


async def test_what_may_have_been_the_network_holds_for_minutes(tmp_path: Path) -> None:
    logins = Logins(Notes(tmp_path))
    with pytest.raises(SourceError, match="can't log in as Backup"):
        async with logins.turn(ACCOUNT, SECRET) as turn:
            raise turn.refused("VDDK", "gave 18000", certain=False)
    with pytest.raises(SourceError, match=r"could not log in as Backup.* not tried again"):
        await logins.check(ACCOUNT, SECRET)
    (note,) = [path for path in tmp_path.iterdir() if path.name != "salt"]
    said = json.loads(note.read_text())
    note.write_text(json.dumps(said | {"refused": said["refused"] - module.DOUBTED_S - 1}))
    await Logins(Notes(tmp_path)).check(ACCOUNT, SECRET)


async def test_a_note_that_is_torn_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        await attempt(Logins(Notes(tmp_path)), right=False)
    (note,) = [path for path in tmp_path.iterdir() if path.name != "salt"]
    empty = b'{"refused": null, "by": "", "words": "", "certain": true}'
    for torn in (
        b"",
        b'{"refused": 17',
        b"[]",
        b"7",
        empty,
        b"\xff",
        b'{"accepted":' * 300,
        b'{"accepted": NaN}',
        b'{"accepted": 1' + b"0" * 400 + b"}",
    ):
        note.write_bytes(torn)
        await Logins(Notes(tmp_path)).check(ACCOUNT, SECRET)


async def test_a_login_that_hangs_keeps_the_untried_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "TURN_S", 0.05)
    monkeypatch.setattr(module, "STUCK_S", 0.2)
    logins, other = Logins(Notes(tmp_path)), Logins(Notes(tmp_path))

    async def hang(began: asyncio.Event) -> None:
        async with logins.turn(ACCOUNT, SECRET):
            began.set()
            await asyncio.sleep(60)

    hanging = asyncio.create_task(hang(began := asyncio.Event()))
    await began.wait()
    for each in (logins, other):
        with pytest.raises(SourceError, match="has been under way"):
            await attempt(each, right=True)
    hanging.cancel()
    await asyncio.wait([hanging])
    await attempt(logins, right=True)
    hanging = asyncio.create_task(hang(began := asyncio.Event()))
    await began.wait()
    await attempt(logins, right=True)
    await attempt(other, right=True)
    with pytest.raises(ConfigError):
        await attempt(other, right=False)
    await refused(logins)
    hanging.cancel()
    await asyncio.wait([hanging])


async def test_a_state_directory_that_can_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[Record] = []
    logins = Logins(Notes(tmp_path / "file" / "logins"), Events(recorder(told)))
    with pytest.raises(ConfigError):
        await attempt(logins, right=False)
    await refused(logins)
    await attempt(logins, right=True, secret="other")
    assert [event["event"] for event in told] == ["source.warning"]


def test_old_notes_are_forgotten(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    old = notes.of(b"old")
    assert old.take()
    old.write(b"x")
    old.release()
    (path,) = [path for path in tmp_path.iterdir() if path.name != "salt"]
    os.utime(path, (0, time.time() - KEPT_S - 60))
    notes.of(b"new")
    assert not path.exists() and (tmp_path / "salt").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("call", "code", "text", "means"),
    [
        ("VixDiskLib_ConnectEx", 3014, "", True),
        ("VixDiskLib_PrepareForAccess", 3014, "", True),
        ("VixDiskLib_EndAccess", 35, "", True),
        ("VixDiskLib_Cleanup", 3014, "", True),
        ("VixDiskLib_ConnectEx", 1, "Incorrect user name or password", True),
        ("VixDiskLib_ConnectEx", 18000, "Login failed", True),
        ("VixDiskLib_ConnectEx", 18000, "Cannot connect", None),
        ("VixDiskLib_Cleanup", 18000, "Cannot connect to host", False),
        ("VixDiskLib_ConnectEx", 14009, "", False),
        ("VixDiskLib_Open", 3014, "", False),
        ("VixDiskLib_ConnectEx", 0, "and gave no connection", False),
    ],
)
def test_which_answers_refuse_a_login(call: str, code: int, text: str, means: bool | None) -> None:
    assert CallFailed(call, code, text).refused is means
