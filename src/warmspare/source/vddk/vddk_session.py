"""A VM's disks through a VDDK: where to connect, and how long to try; owns the reader process of one disk at a time.

Each failure is tried again as its class says (vddk_errors.py): with backoff, on a new connection or in a new process,
with smaller reads where memory was short, until several in a row brought nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from warmspare.errors import ConfigError, SourceError
from warmspare.model.units import BLOCK_BYTES, SPAN_BYTES
from warmspare.observe.events import Events
from warmspare.observe.kinds.source import SourceRetry, SourceWarning
from warmspare.source.logins import Account, Logins
from warmspare.source.vddk.vddk_errors import Action, CallFailed, ReaderDied, ReaderError
from warmspare.source.vddk.vddk_install import GET_IT, Install
from warmspare.source.vddk.vddk_process import ProcessSettings, ReaderProcess

_T = TypeVar("_T")

# Buffers of 1 MiB, our largest read, and four of them: VMware's advice, 1.45 times the rate of the default.
NFC_SETTINGS = "vixDiskLib.nfcAio.Session.BufSizeIn64KB=16\nvixDiskLib.nfcAio.Session.BufCount=4\n"


# A process in which one of these failed is of no use.
_BEFORE_ANY = ("VixDiskLib_InitEx", "VixDiskLib_AllocateConnectParams", "VixDiskLib_Exit")


@dataclass(frozen=True, slots=True)
class VddkTarget:
    """Which disk of which VM. All but `transports` None: local files, without any server.

    vm: the VM's managed object, `vm-123`. snapshot: `snapshot-123`. thumbprint: SHA-1, as AA:BB:…. cookie: a vCenter
    session to use instead of the password.
    """

    server: str | None = None
    port: int = 443
    vm: str | None = None
    snapshot: str | None = None
    thumbprint: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    cookie: str | None = field(default=None, repr=False)
    transports: str | None = None
    nfc_port: int = 0

    @property
    def local(self) -> bool:
        return self.server is None

    @property
    def secret(self) -> str:
        """What it logs in with."""
        return self.password or self.cookie or ""

    @property
    def account(self) -> Account:
        return Account(self.server or "", self.port, self.user or "")

    def fields(self) -> dict[str, Any]:
        """As the reader process takes them."""
        if self.local:
            return {}
        return {
            "vm": f"moref={self.vm}",
            "server": self.server,
            "port": self.port,
            "nfc_port": self.nfc_port,
            "thumbprint": self.thumbprint,
            "user": self.user,
            "password": self.password,
            "cookie": self.cookie,
        }


@dataclass(frozen=True, slots=True)
class VddkSettings:
    """How to read and how long to try.

    requests, bytes: the most in flight. hang_s: how long a read may take. keep_alive_s: how long an open disk may
    lie idle. attempts: failures in a row, with nothing read between, that end it. backoff_s doubles up to
    backoff_most_s. wait_s: before a new process where names must be resolved again. config: the VDDK's own settings.
    """

    requests: int = 8
    bytes: int = 8 * SPAN_BYTES
    hang_s: float = 120.0
    keep_alive_s: float = 60.0
    attempts: int = 6
    backoff_s: float = 1.0
    backoff_most_s: float = 60.0
    wait_s: float = 30.0
    config: Path | None = None
    process: ProcessSettings = field(default_factory=ProcessSettings)


class Rights(Protocol):
    """Who knows what the user may do: a library says the same of a login that was refused and of a right that lacks."""

    async def lacking(self, operation: str) -> str:
        """The rights that the user lacks for it; "" where none, or where that can't be asked."""
        ...

    def known(self, operation: str) -> str:
        """The same as far as it is known, so that it need not be tried."""
        ...


class LackingError(ConfigError):
    """The login was not refused: the user lacks a right."""


@contextlib.contextmanager
def _configuration(given: Path | None) -> Iterator[str]:
    """The library's settings file: the one given, or ours."""
    if given is not None:
        yield str(given)
        return
    with tempfile.NamedTemporaryFile("w", prefix="warmspare-vddk-", suffix=".conf") as file:
        file.write(NFC_SETTINGS)
        file.flush()
        yield file.name


class VddkSession:
    """One target through one library. A reader process lives from the first need of it to `close`, or to its death.

    requests, request_bytes: the most reads in flight, and the largest; both shrink where memory is short. missing,
    modes: optional functions that the library lacks and transports that it offers, known once `process` was there.
    logins: shared with whoever else logs in with the target's account.
    """

    def __init__(
        self,
        install: Install,
        target: VddkTarget,
        settings: VddkSettings,
        events: Events,
        *,
        logins: Logins | None = None,
        rights: Rights | None = None,
    ) -> None:
        self._logins, self._rights = logins or Logins(events=events), rights
        self.install, self.target, self.settings, self.events = install, target, settings, events
        self.request_bytes, self.requests = SPAN_BYTES, settings.requests
        self.missing: list[str] = []
        self.modes: str | None = None
        self._process: ReaderProcess | None = None
        self._init = contextlib.ExitStack()  # what InitEx reads; kept until it has, or its process is gone
        self._failures = 0

    async def process(self) -> ReaderProcess:
        """The reader process with the library initialised, started if there is none. ConfigError where this VDDK can't
        be loaded, or where the target's account was refused."""
        if self._process is not None and not self._process.died:
            return self._process
        await self._drop()
        if not self.target.local:
            await self._logins.check(self.target.account, self.target.secret)
        secrets = [secret for secret in (self.target.password, self.target.cookie) if secret]
        process = self._process = await ReaderProcess.start(self.install.library_dir, self.settings.process, secrets)
        await self._load(process)
        config = self._init.enter_context(_configuration(self.settings.config))
        found = await process.call("init", directory=str(self.install.lib_dir), config=config)
        self._init.close()
        self.modes = str(found["modes"]) if found.get("modes") else None
        await process.call("target", **self.target.fields())
        if not self.target.local:
            try:
                await self.log_in(process, "cleanup")
            except (CallFailed, LackingError) as error:
                self.events.emit(SourceWarning(message=f"what earlier runs left was not cleaned up: {error}"))
        return process

    async def log_in(self, process: ReaderProcess, operation: str, **fields: Any) -> None:
        """A call in which the library logs in (vddk_errors.LOGINS). ConfigError or SourceError where that is refused,
        or was before, LackingError among them; ReaderError for anything else that fails."""
        target = self.target
        if target.local:
            await process.call(operation, **fields)
            return
        async with self._logins.turn(target.account, target.secret) as turn:
            if known := self._rights.known(operation) if self._rights else "":
                raise self._lacking("VDDK would be refused", known)
            try:
                await process.call(operation, **fields)
            except CallFailed as error:
                if error.refused is False:
                    raise
                if lacking := await self._rights.lacking(operation) if self._rights else "":
                    raise self._lacking(f"VDDK was refused: {error}", lacking) from None
                raise turn.refused("VDDK", str(error), certain=error.refused is True) from None
            turn.accepted()

    def _lacking(self, what: str, rights: str) -> LackingError:
        return LackingError(
            f"{what}; the user lacks {rights}",
            where=self.target.account.where,
            hint="docs/rights.md lists the privileges; `warmspare doctor` checks them",
        )

    async def _load(self, process: ReaderProcess) -> None:
        try:
            missing = (await process.call("load", path=str(self.install.library)))["missing"]
        except (CallFailed, ReaderDied) as error:  # a file that is cut off ends whoever maps it
            await self.close()
            why = error.text if isinstance(error, CallFailed) else str(error)
            where = str(self.install.library)
            raise ConfigError(f"the VDDK can't be loaded: {why}", where=where, hint=GET_IT) from None
        if lacking := [name for name, required in missing if required]:
            await self.close()
            raise ConfigError(
                f"the VDDK is incomplete: its library lacks {', '.join(lacking)}",
                where=str(self.install.library),
                hint=GET_IT,
            )
        self.missing = [name for name, _ in missing]

    def progress(self) -> None:
        """Something was read: failures before it no longer count."""
        self._failures = 0

    async def persist(self, what: str, step: Callable[[], Awaitable[_T]]) -> _T:
        """The step's result; tried again while that may help. SourceError where it does not any more."""
        while True:
            try:
                result = await step()
            except ReaderError as error:
                await self.failed(what, error)
            else:
                self.progress()
                return result

    async def failed(self, what: str, error: ReaderError) -> None:
        """Let go of what failed, and wait as long as it should be waited; SourceError where trying is over."""
        self._failures += 1
        kept = self._process
        if isinstance(error, ReaderDied) and kept is not None:
            error = await kept.death()
        text = str(error)
        if isinstance(error, CallFailed) and kept is not None and not kept.died:
            if not error.text and error.code > 0:
                text = await self._explained(kept, error)
            await self._let_go(kept, error)
        else:
            await self._drop()
        action = error.action
        if action is Action.FATAL or self._failures >= self.settings.attempts:
            times = f", {self._failures} times in a row" if self._failures > 1 else ""
            raise SourceError(
                f"{what} through VDDK failed: {text}{times}",
                where=self.target.server or str(self.install.directory),
                hint=error.hint or "run again when the cause is mended",
                retryable=action is not Action.FATAL,
            )
        if action is Action.SHRINK:
            self.requests = max(1, self.requests // 2)
            self.request_bytes = max(BLOCK_BYTES, self.request_bytes // 2)
        wait_s = min(self.settings.backoff_s * 2 ** (self._failures - 1), self.settings.backoff_most_s)
        if action is Action.WAIT:
            wait_s = max(wait_s, self.settings.wait_s)
        self.events.emit(SourceRetry(message=f"{what}: {text}", attempt=self._failures, seconds=wait_s))
        await asyncio.sleep(wait_s)

    async def _explained(self, process: ReaderProcess, error: CallFailed) -> str:
        """The library's words for an error that came without any."""
        try:
            words = str((await process.call("explain", error=error.code))["text"]).strip()
        except (ReaderError, KeyError):
            return str(error)
        return f"{error} ({words})" if words else str(error)

    async def _let_go(self, process: ReaderProcess, error: CallFailed) -> None:
        """Close disk and connection, but keep the process: it costs a second to load a VDDK."""
        if error.action is Action.WAIT or error.call in _BEFORE_ANY:
            await self._drop()
            return
        try:
            await process.call("close")
            await process.call("disconnect")
        except ReaderError:
            await self._drop()

    async def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.kill()
        self._init.close()

    async def close(self) -> None:
        """End the reader process, letting it close what it has."""
        process, self._process = self._process, None
        if process is not None:
            await process.close()
        self._init.close()

    # -- access to the VM -----------------------------------------------------------------------------------------

    async def prepare_for_access(self, identity: str) -> None:
        """Before the snapshot is taken: the host is not to move the VM until `end_access`."""
        await self.persist("preparing access to the VM", lambda: self._ask("prepare", identity))

    async def end_access(self, identity: str) -> None:
        """After the snapshot is removed, and again when recovering from a crash."""
        await self.persist("ending access to the VM", lambda: self._ask("end_access", identity))

    async def _ask(self, operation: str, identity: str) -> None:
        await self.log_in(await self.process(), operation, identity=identity)
