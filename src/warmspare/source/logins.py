"""Logins with a password: one at a time for an account, and none after one was refused; owns no password.

vCenter locks an account after about five refused logins, and each VM makes several: one of the session, and one in each
of VDDK's PrepareForAccess, ConnectEx, EndAccess and Cleanup. So one refusal counts for the account with that very
password: in this process, and through notes in the state directory in all of this host. Whoever comes while a login is
under way waits for what becomes of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import msgspec

from warmspare.errors import ConfigError, SourceError, StoreError, WarmspareError
from warmspare.observe.events import Events
from warmspare.observe.kinds.source import SourceWarning
from warmspare.outside import records
from warmspare.outside.records import Line, Seconds, UnfitError

HELD_S = 3600.0  # how long a refusal holds: one login an hour locks nobody out, whatever the rules
DOUBTED_S = 300.0  # where it may also have been the network
TURN_S = 5.0  # how long an account that was let in before waits for another login of it: that one may hang
STUCK_S = 600.0  # how long one that was not waits
LOOK_S = 0.05  # between looks at another process's login
_WORDS_CHARS = 300


@dataclass(frozen=True, slots=True)
class Account:
    """server: host name or address. port: of the API."""

    server: str
    port: int
    user: str

    @property
    def where(self) -> str:
        return f"{self.server}:{self.port}"

    def with_secret(self, secret: str) -> bytes:
        """One name for both. Hosts and users are the same in any case of their letters."""
        return json.dumps([self.server.casefold().rstrip("."), self.port, self.user.casefold(), secret]).encode()


class LoginNote(Protocol):
    """What all processes of the host know of one account; see state/notes.py."""

    def take(self) -> bool: ...

    def release(self) -> None: ...

    def read(self) -> bytes: ...

    def write(self, text: bytes) -> None: ...


class LoginNotes(Protocol):
    """The notes of all accounts."""

    def of(self, name: bytes) -> LoginNote: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """A login that was refused. at: of the wall clock. by: vCenter or VDDK. words: its own. certain: it was not perhaps
    the network."""

    at: float
    by: str
    words: str
    certain: bool

    @property
    def holds(self) -> bool:
        """One that seems to be from the future does not: the clock was put back, and one more login is no harm."""
        return 0 <= time.time() - self.at < (HELD_S if self.certain else DOUBTED_S)

    def error(self, account: Account, *, again: bool) -> WarmspareError:
        """again: for one who came later and did not try."""
        ago = f"{max(1, round(time.time() - self.at))} s ago, and it is not tried again"
        if self.certain:
            did = f"refused the login of {account.user} {ago}" if again else f"refuses the login of {account.user}"
            return ConfigError(
                f"{self.by} {did}: {self.words}",
                where=account.where,
                hint="check user, password, and whether the account is locked; to keep it from being locked, this "
                "password is not tried again for an hour; `warmspare doctor` tries it at once",
            )
        did = f"could not log in as {account.user} {ago}" if again else f"can't log in as {account.user}"
        return SourceError(
            f"{self.by} {did}: {self.words}",
            where=account.where,
            hint="check user, password, thumbprint and network; to keep the account from being locked, this password "
            "is not tried again for five minutes; `warmspare doctor` tries it at once",
        )


class _Known:
    """What this process knows of an account with a password."""

    def __init__(self, note: LoginNote | None) -> None:
        self.note, self.lock = note, asyncio.Lock()
        self.refusal: Refusal | None = None
        self.accepted = False

    def heard(self, *, ignore: bool) -> tuple[Refusal | None, bool]:
        """The refusal that holds, and whether the account was let in lately. ignore: what other processes say of
        refusals."""
        refusal, accepted = self.refusal, self.accepted
        if self.note is not None:
            told = _decoded(self.note.read())
            if isinstance(told, Refusal) and not ignore:
                refusal = told
            elif isinstance(told, float):
                accepted = accepted or 0 <= time.time() - told < HELD_S
                if refusal is not None and told > refusal.at:  # another process was let in since
                    refusal = self.refusal = None
        return (refusal if refusal is not None and refusal.holds else None), accepted


class LoginTurn:
    """The right to one login. Say `accepted` or raise what `refused` gives; say nothing where neither is known."""

    def __init__(self, account: Account, secret: str, known: _Known) -> None:
        self._account, self._secret, self._known = account, secret, known

    def accepted(self) -> None:
        self._known.refusal, self._known.accepted = None, True
        self._note(json.dumps({"accepted": time.time()}))

    def refused(self, by: str, words: str, *, certain: bool = True) -> WarmspareError:
        """See Refusal."""
        words = words.replace(self._secret, "***")[:_WORDS_CHARS]
        refusal = self._known.refusal = Refusal(time.time(), by, words, certain)
        self._known.accepted = False
        self._note(json.dumps({"refused": refusal.at, "by": by, "words": words, "certain": certain}))
        return refusal.error(self._account, again=False)

    def _note(self, text: str) -> None:
        note = self._known.note
        if note is None:
            return
        try:
            note.write(text.encode())
        except StoreError:  # full, or gone; this process knows it all the same
            self._known.note = None


class _Told(msgspec.Struct, frozen=True):
    """What a note says: when the account was let in, or how it was refused, and when."""

    accepted: Seconds | None = None
    refused: Seconds | None = None
    by: Line = ""
    words: Line = ""
    certain: bool = True


def _decoded(raw: bytes) -> Refusal | float | None:
    """None for a note that says nothing, or was torn."""
    try:
        told = records.decode(raw, _Told)
    except UnfitError:
        return None
    if told.accepted is not None:
        return told.accepted
    return None if told.refused is None else Refusal(told.refused, told.by, told.words, told.certain)


class Logins:
    """Every login of this process. Sessions that share it share what they know of accounts.

    notes: what other processes know; None for this one alone. again: try once more what others were refused.
    """

    def __init__(self, notes: LoginNotes | None = None, events: Events | None = None, *, again: bool = False) -> None:
        self._notes, self._events, self._again = notes, events or Events(), again
        self._key = os.urandom(32)
        self._known: dict[bytes, _Known] = {}
        self._first = asyncio.Lock()

    async def look(self, account: Account, secret: str) -> None:
        """Find the account's note, which takes a moment, so that a turn need not."""
        await self._of(account, secret)

    async def check(self, account: Account, secret: str) -> None:
        """Raises what the login would be refused with, without trying. ConfigError, SourceError."""
        known = await self._of(account, secret)
        self._refuse(account, known)

    @asynccontextmanager
    async def turn(self, account: Account, secret: str) -> AsyncIterator[LoginTurn]:
        """Log in inside it. ConfigError or SourceError where it was refused before, or while this waited."""
        known = await self._of(account, secret)
        self._refuse(account, known)
        until = time.monotonic() + (TURN_S if self._heard(known)[1] else STUCK_S)
        alone = await self._alone(account, known, until)
        taken = None
        try:
            taken = await self._taken(account, known, until) if alone else None
            self._refuse(account, known)
            yield LoginTurn(account, secret, known)
        finally:
            if taken is not None:
                taken.release()
            if alone:
                known.lock.release()

    async def _of(self, account: Account, secret: str) -> _Known:
        name = account.with_secret(secret)
        key = hashlib.blake2b(name, key=self._key).digest()
        async with self._first:
            if key not in self._known:
                note = None
                if self._notes is not None:
                    try:
                        note = await asyncio.to_thread(self._notes.of, name)
                    except StoreError as error:
                        self._alone_from_now(error)
                self._known[key] = _Known(note)
        return self._known[key]

    def _alone_from_now(self, error: StoreError) -> None:
        self._notes = None
        self._events.emit(SourceWarning(message=f"refused logins are counted for this process alone: {error}"))

    def _heard(self, known: _Known) -> tuple[Refusal | None, bool]:
        try:
            return known.heard(ignore=self._again)
        except StoreError as error:
            known.note = None
            self._alone_from_now(error)
            return known.heard(ignore=self._again)

    def _refuse(self, account: Account, known: _Known) -> None:
        refusal, _ = self._heard(known)
        if refusal is not None:
            raise refusal.error(account, again=True)

    async def _alone(self, account: Account, known: _Known, until: float) -> bool:
        """Whether no other task logs in; False for an account that was let in lately, where another's login hangs."""
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0.0)):
                await known.lock.acquire()
        except TimeoutError:
            self._stuck(account, known)
            return False
        return True

    async def _taken(self, account: Account, known: _Known, until: float) -> LoginNote | None:
        """The same of other processes: the note, taken."""
        while known.note is not None:
            try:
                if known.note.take():
                    return known.note
            except StoreError as error:
                known.note = None
                self._alone_from_now(error)
                break
            if time.monotonic() >= until:
                self._stuck(account, known)
                break
            await asyncio.sleep(LOOK_S)
            self._refuse(account, known)
        return None

    def _stuck(self, account: Account, known: _Known) -> None:
        refusal, accepted = self._heard(known)
        if refusal is not None:
            raise refusal.error(account, again=True)
        if not accepted:
            raise SourceError(
                f"another login of {account.user} has been under way for {STUCK_S:.0f} s, and nobody knows yet whether "
                "the password is right",
                where=account.where,
                hint="look whether vCenter answers; run again",
                retryable=True,
            )
