"""Sessions that are kept for the next who asks the same: who gets one, and who never does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from warmspare.store.s3.session import session_shelf
from warmspare.store.s3.session.session_shelf import MOST, SessionShelf, current_shelf, shelving


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


async def kept(shelf: SessionShelf, key: object = "a") -> _Session:
    session = _Session()
    await shelf.give_back(key, session)  # type: ignore[arg-type]
    return session


async def test_one_user_at_a_time() -> None:
    shelf = SessionShelf()
    session = await kept(shelf)
    assert shelf.take("b") is None
    assert shelf.take("a") is session and session.wire.begun == 1
    assert shelf.take("a") is None
    await shelf.give_back("a", session)  # type: ignore[arg-type]
    assert shelf.take("a") is session
    await shelf.close()
    assert not session.closed  # its user's to close


@pytest.mark.parametrize("what", ["variable", "file", "file grows", "other file"])
async def test_other_credentials(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "credentials"
    file.write_text("[default]\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    shelf = SessionShelf()
    session = await kept(shelf)
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
    assert shelf.take("a") is None
    await shelf.close()
    assert session.closed == 1


async def test_none_that_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits a minute at most, and is ten at most, however often it is used."""
    now = 1000.0
    monkeypatch.setattr(session_shelf.time, "monotonic", lambda: now)
    shelf = SessionShelf()
    session = await kept(shelf)
    now += session_shelf.IDLE_S + 1
    assert shelf.take("a") is None
    other = await kept(shelf)
    assert session.closed == 1 and not other.closed
    for _ in range(int(session_shelf.AGE_S / session_shelf.IDLE_S) + 1):
        now += session_shelf.IDLE_S - 1
        if shelf.take("a") is None:
            break
        await shelf.give_back("a", other)  # type: ignore[arg-type]
    assert shelf.take("a") is None
    await shelf.close()
    assert other.closed == 1


async def test_no_more_than_so_many_and_none_after_its_end() -> None:
    shelf = SessionShelf()
    sessions = [await kept(shelf, number) for number in range(MOST + 3)]
    assert [session.closed for session in sessions[:4]] == [1, 1, 1, 0]
    late = _Session()
    await shelf.close()
    assert all(session.closed == 1 for session in sessions)
    await shelf.give_back("a", late)  # type: ignore[arg-type]
    assert late.closed == 1


def test_of_its_loop_alone() -> None:
    async def made() -> SessionShelf:
        return SessionShelf()

    async def seen(shelf: SessionShelf) -> SessionShelf | None:
        with shelving(shelf):
            return current_shelf()

    shelf = asyncio.run(made())
    assert asyncio.run(seen(shelf)) is None
