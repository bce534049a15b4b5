"""The daemon itself, as something that is asked for."""

from __future__ import annotations

import gc

from warmspare.daemon.server import DaemonServer
from warmspare.daemon.socket_place import SocketPlace
from warmspare.engine.budget import BUDGET, Share
from warmspare.engine.engine_runs import Engine
from warmspare.engine.request import Request, RunContext


class DaemonRequest(Request[None], frozen=True, kw_only=True):
    """Do what the commands of this user ask for, in one process, until it is ended. budget: what all of it together may
    use. LeaseError where another one of this state directory is at work."""

    budget: Share = BUDGET

    async def perform(self, run: RunContext) -> None:
        async with Engine(state=run.host.given, budget=self.budget) as engine:
            server = DaemonServer(engine, run)
            gc.collect()
            gc.freeze()  # what was read up to here stays to the end
            await server.serve(SocketPlace(run.host.daemon_socket))

    def apart(self) -> str:
        return "it is one itself"
