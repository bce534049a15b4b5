"""Takes requests from the commands of this user, many at once, and does them in this process; owns who is let in.

Each connection asks for one thing. What would not be done here as over there is declined, and the command does it by
itself; the reason is in words. A thread that is in a call which nothing can stop keeps what its run has locked. So a
daemon with such a run takes nothing more, and ends once the others are over.
"""

from __future__ import annotations

import asyncio
import functools
import operator
import os
import secrets
import signal
import socket
import time
from typing import Any

import warmspare
from warmspare.daemon.carrying import NotCarriedError, taken
from warmspare.daemon.frames import BrokenOffError, Frames
from warmspare.daemon.messages import MOST_ASKED_BYTES, PROTOCOL, Ask, Declined, FromClient, Greeting
from warmspare.daemon.served_run import ServedRun
from warmspare.daemon.socket_place import SocketPlace, peer
from warmspare.daemon.surroundings import Surroundings
from warmspare.engine.engine_runs import Engine
from warmspare.engine.request import Request, RunContext
from warmspare.errors import WarmspareError
from warmspare.observe.kinds.daemon_events import DaemonDeclined, DaemonEnded, DaemonReady, DaemonStuck, DaemonTook

MOST_CONNECTIONS = 256
ASK_S = 5.0  # that a client has to say what it wants
NONCE_BYTES = 16


def requests() -> Any:
    """Every request that there is, as one type: reading all of them is what makes the process warm."""
    kinds = [getattr(warmspare, name) for name in warmspare.__all__ if name.endswith("Request")]
    return functools.reduce(operator.or_, (kind for kind in kinds if kind is not Request))


class DaemonServer:
    """Of one state directory."""

    def __init__(self, engine: Engine, run: RunContext) -> None:
        self._engine, self._events = engine, run.events
        self._requests = requests()
        self._connections = 0
        self._stuck = False

    async def serve(self, place: SocketPlace) -> None:
        """Until it is cancelled; then what runs is ended as by a signal. LeaseError, StoreError."""
        loop = asyncio.get_running_loop()
        with place.listening() as listener:
            self._events.emit(DaemonReady(socket=str(place.path), pid=os.getpid()))
            async with asyncio.TaskGroup() as group:
                while True:
                    try:
                        connection, _ = await loop.sock_accept(listener)
                    except OSError:  # no descriptor is left: those that run give theirs back
                        await asyncio.sleep(ASK_S / 10)
                        continue
                    group.create_task(self._connected(connection))

    async def _connected(self, connection: socket.socket) -> None:
        number, user = peer(connection)
        if user != os.geteuid():
            connection.close()
            self._declined(number, f"user {user} is not this one")
            return
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        frames: Frames[FromClient] = Frames(reader, writer, FromClient, MOST_ASKED_BYTES)
        self._connections += 1
        try:
            await self._heard(frames, number)
        except (BrokenOffError, OSError):
            pass  # it went away, or is none of ours; whatever it was, others are served
        finally:
            await frames.close()
            self._connections -= 1
            if self._stuck and not self._connections:
                os.kill(os.getpid(), signal.SIGTERM)  # whatever is in that call, this ends it (ending.py)

    async def _heard(self, frames: Frames[FromClient], number: int) -> None:
        nonce = secrets.token_bytes(NONCE_BYTES)
        frames.say(Greeting(PROTOCOL, nonce.hex()))
        try:
            async with asyncio.timeout(ASK_S):
                ask = await frames.hear()
        except TimeoutError:
            return
        if not isinstance(ask, Ask):
            return
        request, why = self._judged(ask, nonce)
        if request is None:
            frames.say(Declined(why))
            self._declined(number, why)
            return
        name, began_s = type(request).__name__, time.monotonic()
        self._events.emit(DaemonTook(request=name, pid=number))
        run = ServedRun(self._engine, frames)
        await run.serve(ask, request)
        self._events.emit(
            DaemonEnded(request=name, pid=number, exit_code=run.code, seconds=round(time.monotonic() - began_s, 3))
        )
        if run.stuck and not self._stuck:
            self._stuck = True
            self._events.emit(DaemonStuck(request=name))

    def _judged(self, ask: Ask, nonce: bytes) -> tuple[Request[Any] | None, str]:
        """What is asked for; None where it is not done here, and why."""
        if self._stuck:
            return None, "a run of it is stuck, and it is about to end"
        if self._connections > MOST_CONNECTIONS:
            return None, f"it does {MOST_CONNECTIONS} things already"
        try:
            request: Request[Any] = taken(ask.request, self._requests)
        except NotCarriedError as error:
            return None, str(error)
        try:
            here = Surroundings.here(nonce)
        except OSError as error:  # while it is being replaced
            return None, f"what it was started from can't be looked at: {error.strerror}"
        why = request.apart() or ask.surroundings.differs(here, _secret_variables(request))
        return (None, why) if why else (request, "")

    def _declined(self, number: int, why: str) -> None:
        self._events.emit(DaemonDeclined(pid=number, why=why))


def _secret_variables(request: Request[Any]) -> set[str]:
    """Those that hold secrets, as the configuration says that the request names."""
    from warmspare.config.load import load
    from warmspare.engine.host_places import config_path

    if not hasattr(request, "config"):
        return set()
    try:
        settings = load(config_path(request.config))
    except WarmspareError:
        return set()  # the run says so
    return {secret.variable for secret in settings.secrets() if secret.variable}
