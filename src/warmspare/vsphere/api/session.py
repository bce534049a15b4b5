"""One login at a vCenter or ESXi host: owns the connection, the threads that block on it and the one layer of retries.

Everything that pyVmomi does blocks, so it runs in a few threads of the session. Callers give a step without arguments
and get its result; faults of the API come through as they are, but for NotAuthenticated, after which the session logs
in again. Where the connection fails a step is repeated with backoff until a deadline, unless it creates something.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pyVmomi import vim, vmodl

from warmspare.config.settings import VCenter
from warmspare.debts import holding
from warmspare.errors import ConfigError, SourceError
from warmspare.observe.events import Events
from warmspare.observe.kinds.source_events import SourceRetry, SourceWarning, VsphereLogin
from warmspare.source.logins import Account, Logins
from warmspare.threads import finish
from warmspare.vsphere.api import faults, garbled, tls
from warmspare.vsphere.api.oddities import NotUnderstoodError
from warmspare.vsphere.api.stub import Stub

_T = TypeVar("_T")

THREADS = 8
LOGOUT_S = 1.0  # where the process was asked to end: half an hour later the server ends a session by itself
# What using an answer raises where a part of it is not there or is something else.
_NOT_UNDERSTOOD = (NotUnderstoodError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
RELOGINS = 3  # sessions lost in a row, each right after its login
LOST_LOGINS = 3  # answers to a login lost in a row: each may have been a refusal, and five lock an account


@dataclass(frozen=True, slots=True)
class Server:
    """Where to log in. password: asked for anew at each login, off the event loop. thumbprint: SHA-256 in hex."""

    host: str
    user: str
    password: Callable[[], str] = field(repr=False)
    port: int = 443
    thumbprint: str | None = None
    ca_file: Path | None = None

    @classmethod
    def of(cls, vcenter: VCenter) -> Server:
        """As the configuration has it."""
        password = vcenter.password.reveal
        return cls(vcenter.host, vcenter.user, password, vcenter.port, vcenter.thumbprint, vcenter.ca_file)

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.host}:{self.port}"

    @property
    def account(self) -> Account:
        return Account(self.host, self.port, self.user)


@dataclass(frozen=True, slots=True)
class SessionPatience:
    """How long to try. deadline_s: from a call's first failure on; a vCenter takes minutes to restart. backoff_s
    doubles up to backoff_most_s. connect_s: for a connection. call_s: for an answer, or more of it. answer_s: for all
    of it. cancel_s: how long a cancelled call is waited for. keep_alive_s: an idle session ends after half an hour on
    the server."""

    deadline_s: float = 300.0
    backoff_s: float = 0.5
    backoff_most_s: float = 15.0
    connect_s: float = 15.0
    call_s: float = 300.0
    answer_s: float = 600.0
    cancel_s: float = 5.0
    keep_alive_s: float = 300.0


class VsphereSession:
    """Use as an async context manager; it connects and logs in on entry. One session serves several VMs.

    content, trust: of the server, known once connected. lacks: privileges that VDDK's operations were refused for, and
    that are asked at the root, so that it concerns all VMs. logins: shared with whoever else logs in with the account.
    """

    def __init__(
        self, server: Server, events: Events, patience: SessionPatience | None = None, logins: Logins | None = None
    ) -> None:
        self.server, self.events = server, events
        self.logins = logins or Logins(events=events)
        self.patience = patience or SessionPatience()
        self.content: Any = None
        self.lacks: dict[str, str] = {}
        self.trust: tls.TlsTrust | None = None
        self._stub: Stub | None = None
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="vsphere")
        self._login_lock = asyncio.Lock()
        self._login_number = 0
        self._lost_logins = 0
        self._valid = False
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> VsphereSession:
        try:
            await self.call("logging in", lambda: None)
        except BaseException:
            await self.close()
            raise
        self._keeper = asyncio.create_task(self._keep_alive(), name="vsphere keep-alive")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def where(self) -> str:
        return self.server.where

    @property
    def thumbprint_sha1(self) -> str:
        """Of the server's certificate, as VDDK wants it."""
        assert self.trust is not None
        return self.trust.sha1

    @property
    def context(self) -> ssl.SSLContext:
        """For other connections to the same server."""
        assert self.trust is not None
        return self.trust.context

    @property
    def about(self) -> str:
        """What the server says it is."""
        return str(self.content.about.fullName)

    @property
    def instance_uuid(self) -> str:
        """The vCenter's own; "" for a host, which has none."""
        return str(self.content.about.instanceUuid or "")

    async def password(self) -> str:
        """The password, asked for now."""
        return await self._in_thread(self.server.password)

    def bound(self, kind: Any, moref: str) -> Any:
        """A managed object of this session: `bound(vim.VirtualMachine, "vm-12")`."""
        return kind(moref, self._stub)

    async def glance(self, step: Callable[[], _T]) -> _T | None:
        """The step's result if the session is there and answers; None otherwise. It never logs in."""
        if not self._valid:
            return None
        with contextlib.suppress(*faults.TROUBLE, vmodl.MethodFault, *_NOT_UNDERSTOOD):
            return await self._in_thread(step)
        return None

    async def call(self, what: str, step: Callable[[], _T]) -> _T:
        """The step's result; it is repeated when the connection fails, so it must be one that may be repeated.

        what: for messages: "reading the VM". Faults of the API are raised as they are. SourceError when vCenter stays
        away past the deadline, ConfigError when login or certificate are refused. After a cancel nothing runs any
        more, or only until the connection's own end of patience.
        """
        return await self._persist(what, step, repeat=True)

    async def once(self, what: str, step: Callable[[], _T]) -> _T:
        """As `call`, for a step that creates something: repeated only where it certainly was not done. AnswerLostError
        where that isn't known; the caller must look before it asks again."""
        return await self._persist(what, step, repeat=False)

    async def _persist(self, what: str, step: Callable[[], _T], *, repeat: bool) -> _T:
        until, failures, lost = 0.0, 0, 0
        while True:
            try:
                login = await self._ready()
            except ssl.SSLCertVerificationError as error:
                raise tls.untrusted(error, self.where) from None
            except faults.TROUBLE as error:
                failures += 1
                until = await self._wait(what, error, failures, until)
                continue
            except _NOT_UNDERSTOOD as error:
                raise self._not_understood("logging in", error) from error
            try:
                return await self._in_thread(step)
            except vim.fault.NotAuthenticated:  # it was not done, whatever it was
                lost += 1
                if lost > RELOGINS:
                    raise SourceError(
                        f"vCenter forgets the session again and again, {what}",
                        where=self.where,
                        hint="look at its limits of sessions",
                        retryable=True,
                    ) from None
                if self._login_number == login:
                    self._valid = False
            except ssl.SSLCertVerificationError as error:
                raise tls.untrusted(error, self.where) from None
            except faults.TROUBLE as error:
                if not repeat and not faults.unsent(error):
                    raise faults.AnswerLostError(faults.text(error)) from None
                failures += 1
                until = await self._wait(what, error, failures, until)
            except _NOT_UNDERSTOOD as error:
                odd = self._not_understood(what, error)
                if not repeat:  # it was done, perhaps
                    raise faults.AnswerLostError(odd.what) from error
                raise odd from error

    def _not_understood(self, what: str, error: Exception) -> SourceError:
        """For an answer whose parts are not what they must be. It will not be another one, so it is not asked again."""
        said = error.said if isinstance(error, NotUnderstoodError) else f"{type(error).__name__}, {error}"
        return NotUnderstoodError(f"{what}: {garbled.clean(said)}", self.where)

    async def _wait(self, what: str, error: Exception, failures: int, until: float) -> float:
        """Wait before the next try; when the last may begin. SourceError where trying is over."""
        now = time.monotonic()
        until = until or now + self.patience.deadline_s
        most = min(self.patience.backoff_s * 2 ** min(failures - 1, 16), self.patience.backoff_most_s)
        wait_s = most * random.uniform(0.5, 1.0)  # noqa: S311
        if now + wait_s > until or faults.hopeless(error):
            if isinstance(error, garbled.GarbledError):
                raise SourceError(
                    f"vCenter's answers are lost, {what}: the last was {faults.text(error)}",
                    where=self.where,
                    hint="look whether it is well, and at what stands before it (a proxy, a gateway); run again then",
                    retryable=True,
                ) from None
            raise SourceError(
                f"vCenter can't be reached, {what}: {faults.text(error)}",
                where=self.where,
                hint="check name, port and network; run again when it is back",
                retryable=True,
            ) from None
        self.events.emit(SourceRetry(message=f"{what}: {faults.text(error)}", attempt=failures, seconds=wait_s))
        await asyncio.sleep(wait_s)
        return until

    async def _ready(self) -> int:
        """Logged in; the number of that login."""
        async with self._login_lock:
            if not self._valid:
                await self._log_in()
                self._valid = True
                if not self._login_number and self._stub is not None and self._stub.assumed:
                    self.events.emit(
                        SourceWarning(
                            message=f"vCenter {self.where} does not say which versions of its API it speaks: 6.5 is "
                            "used, in which it may not tell what newer devices are",
                        )
                    )
                self._login_number += 1
                self.events.emit(
                    VsphereLogin(
                        server=self.where, user=self.server.user, about=self.about, again=self._login_number > 1
                    )
                )
            return self._login_number

    async def _log_in(self) -> None:
        """Log in once, with the password as it is now, unless it was refused before: accounts get locked that way."""
        asking = asyncio.create_task(self._ask())
        try:
            await self._in_thread(self._connect)
        except BaseException:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            raise
        password = await asking
        async with self.logins.turn(self.server.account, password) as turn:
            try:
                await self._in_thread(lambda: self.content.sessionManager.Login(self.server.user, password, None))
            except faults.REFUSED as fault:
                raise turn.refused("vCenter", faults.text(fault)) from None
            except vmodl.MethodFault as fault:
                raise faults.as_error("logging in", fault, self.where) from None
            except faults.TROUBLE as error:
                self._lost(error)
                raise
            self._lost_logins = 0
            turn.accepted()

    async def _ask(self) -> str:
        """The password, and what is known of it: both take their time, in which the connection is made."""
        password = await self.password()
        await self.logins.look(self.server.account, password)
        return password

    def _lost(self, error: Exception) -> None:
        """The answer to a login did not come. SourceError where it did not too often."""
        self._lost_logins += 0 if faults.unsent(error) or faults.unavailable(error) else 1
        if self._lost_logins >= LOST_LOGINS:
            raise SourceError(
                f"the answers to {self._lost_logins} logins as {self.server.user} were lost: {faults.text(error)}",
                where=self.where,
                hint="they may have been refused, and more of them could lock the account; look what is between here "
                "and vCenter, and run again",
                retryable=True,
            ) from None

    def _connect(self) -> None:
        """In a thread: connect if need be; where an answer to a login was lost, look first whether any come."""
        server = self.server
        if self._stub is None:
            trust = tls.establish(server.host, server.port, server.thumbprint, server.ca_file, self.patience.connect_s)
            made = self._new_stub(trust.context)
            self.content = vim.ServiceInstance("ServiceInstance", made).RetrieveContent()
            self.trust, self._stub = trust, made
        self._stub.cookie = ""  # of a session that is no more
        if self._lost_logins:
            vim.ServiceInstance("ServiceInstance", self._stub).RetrieveContent()

    def _new_stub(self, context: ssl.SSLContext) -> Stub:
        server, patience = self.server, self.patience
        made = Stub(
            server.host,
            server.port,
            context,
            connect_s=patience.connect_s,
            call_s=patience.call_s,
            answer_s=patience.answer_s,
            pool=THREADS,
        )
        made.negotiate()
        return made

    async def _in_thread(self, step: Callable[[], _T]) -> _T:
        if self._closed:
            raise RuntimeError("the vSphere session is closed")
        future = asyncio.get_running_loop().run_in_executor(self._pool, step)
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, even if nobody waits
        return await finish(future, grace_s=self.patience.cancel_s)

    async def _keep_alive(self) -> None:
        clock = self.bound(vim.ServiceInstance, "ServiceInstance")
        while True:
            await asyncio.sleep(self.patience.keep_alive_s)
            # whatever is wrong, the next call that somebody needs will meet it and say so
            with contextlib.suppress(*faults.TROUBLE, vmodl.MethodFault, SourceError, ConfigError):
                await self._in_thread(clock.CurrentTime)

    async def close(self) -> None:
        """Log out and end the threads. May be called again."""
        if self._closed:
            return
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        used = self._stub
        if used is not None and self._valid:
            with (
                holding(f"the session at {self.server.where}", LOGOUT_S),
                contextlib.suppress(*faults.TROUBLE, vmodl.MethodFault, SourceError, TimeoutError),
            ):
                async with asyncio.timeout(self.patience.cancel_s):
                    await self._in_thread(self.content.sessionManager.Logout)
        self._closed = True
        if used is not None:
            used.cut()  # a thread that still waits for an answer gets an error instead
        self._pool.shutdown(wait=False, cancel_futures=True)
