"""Sessions that are kept for the next who asks the same: who gets one, and who never does."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from warmspare.store.s3.session import session_shelf
from warmspare.store.s3.session.session_shelf import MOST, SessionShelf, Shelved, current_shelf, shelving


class _Wire:
    def __init__(self) -> None:
        self.begun = 0

    def begin_anew(self) -> None:
        self.begun += 1


class _Session:
    def __init__(self) -> None:
        self.wire, self.closed = _Wire(), 0

    async def close(self) -> None:
        self.closed += 1


def never() -> Any:
    raise AssertionError("there is one")


def taken(shelf: SessionShelf, key: object = "a") -> tuple[Shelved, bool]:
    """And whether it is a new one."""
    made = []

    def make() -> Any:
        made.append(_Session())
        return made[0]

    return shelf.take(key, make), bool(made)


async def kept(shelf: SessionShelf, key: object = "a") -> Any:
    one, new = taken(shelf, key)
    assert new
    await shelf.give_back(one)
    return one.session


async def test_one_user_at_a_time() -> None:
    shelf = SessionShelf()
    session = await kept(shelf)
    assert taken(shelf, "b")[1]
    one = shelf.take("a", never)
    assert one.session is session and session.wire.begun == 1
    assert taken(shelf)[1]
    await shelf.give_back(one)
    assert shelf.take("a", never).session is session
    await shelf.close()
    assert not session.closed  # its user's to close


async def test_nothing_stays_of_one_that_was_closed() -> None:
    """By its user, since something was wrong with it: the shelf of a process that stays must not grow."""
    shelf = SessionShelf()
    await kept(shelf)
    gone = weakref.ref(shelf.take("a", never).session)
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("what", ["variable", "file", "file grows", "other file"])
async def test_other_credentials(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "credentials"
    file.write_text("[default]\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    shelf = SessionShelf()
    session = await kept(shelf)
    used = taken(shelf, "b")[0]
    if what == "variable":
        monkeypatch.setenv("AWS_SESSION_TOKEN", "another")
    elif what == "file":
        other = tmp_path / "new"
        other.write_text("[default]\n")
        other.replace(file)
    elif what == "file grows":
        file.write_text("[default]\nx = 1\n")
    else:
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    assert taken(shelf)[1]
    await shelf.give_back(used)  # they came while it was used: it has the old ones
    assert taken(shelf, "b")[1]
    await shelf.close()
    assert session.closed == 1


async def test_none_that_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits a minute at most, and is ten at most, however often and for how long it is used."""
    now = 1000.0
    monkeypatch.setattr(session_shelf.time, "monotonic", lambda: now)
    shelf = SessionShelf()
    session = await kept(shelf)
    now += session_shelf.IDLE_S + 1
    other, new = taken(shelf)
    assert new
    began = now
    await shelf.give_back(other)
    assert session.closed == 1
    while now + session_shelf.IDLE_S - 1 - began <= session_shelf.AGE_S:
        now += session_shelf.IDLE_S - 1
        await shelf.give_back(shelf.take("a", never))
    now += session_shelf.IDLE_S - 1
    long, new = taken(shelf)
    assert new
    now += session_shelf.AGE_S + 1
    await shelf.give_back(long)
    assert taken(shelf)[1]
    await shelf.close()


async def test_no_more_than_so_many_and_none_after_its_end() -> None:
    shelf = SessionShelf()
    sessions = [await kept(shelf, number) for number in range(MOST + 3)]
    assert [session.closed for session in sessions[:4]] == [1, 1, 1, 0]
    late = taken(shelf)[0]
    await shelf.close()
    assert all(session.closed == 1 for session in sessions)
    await shelf.give_back(late)
    assert late.session.closed == 1  # type: ignore[attr-defined]


def test_of_its_loop_alone() -> None:
    async def made() -> SessionShelf:
        return SessionShelf()

    async def seen(shelf: SessionShelf) -> SessionShelf | None:
        with shelving(shelf):
            return current_shelf()

    shelf = asyncio.run(made())
    assert asyncio.run(seen(shelf)) is None


async def test_what_it_is_known_by_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the environment's credentials."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    taken = SessionShelf().take("a", _Session)  # type: ignore[arg-type]
    assert "hunter2" in str(taken.key) and "hunter2" not in repr(taken)
