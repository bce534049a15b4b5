"""Runs blocking calls on a few threads of its own, and awaits what must not be left half done; refuses to
leave either running behind a cancelled caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
SMALL_BYTES = 16 << 10


async def finish(work: Awaitable[_T], *, grace_s: float | None = None) -> _T:
    """The work's result or error; a cancel of the caller is raised only once the work has ended.

    grace_s: how long after a cancel the work may go on before it is cancelled too (None: for ever, which is
    right for a thread: it can't be stopped, and its files must not be closed or removed under it).
    """
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if future.cancelled():
            raise
        loop = asyncio.get_running_loop()
        deadline = None if grace_s is None else loop.time() + grace_s
        while not future.done():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                future.cancel()
                left = None
                deadline = None
            try:
                await asyncio.wait([future], timeout=left)
            except asyncio.CancelledError:
                continue  # the first cancel is raised below
        if not future.cancelled():
            future.exception()  # looked at, so that asyncio doesn't complain of it
        raise


async def in_thread(call: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """As asyncio.to_thread, but a cancel is raised only once the call has returned: the files that it works on
    may be closed by then."""
    return await finish(asyncio.to_thread(call, *args, **kwargs))


async def beside(size: int, call: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """`in_thread`, but at once where it is about so few bytes that handing it over takes longer than doing it."""
    return call(*args, **kwargs) if size <= SMALL_BYTES else await in_thread(call, *args, **kwargs)


class Threads:
    """A lazily started pool of at most `count` threads."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, call: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The call's result or error. A cancel is raised once the call has returned."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
        loop = asyncio.get_running_loop()
        return await finish(loop.run_in_executor(self._pool, lambda: call(*args, **kwargs)))

    def close(self) -> None:
        """Wait for what runs and end the threads; the next run() would start them anew."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
