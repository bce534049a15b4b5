"""One pass over a disk through a reader process: which reads are in flight, which spans wait; owns no retrying.

Everything happens on the event loop: completions and releases pump further requests into the ring, whether or not
anyone waits for a span at that moment. docs/architecture.md, "The reader process".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from warmspare._native import ring as native
from warmspare.model.extents import Extents
from warmspare.model.units import SPAN_BYTES
from warmspare.observe.kinds.source import SourceWarning
from warmspare.source.ports import Hole, Span
from warmspare.source.spans import Batch, Piece, batches, block_numbers
from warmspare.source.vddk import allocated
from warmspare.source.vddk.allocated import Window
from warmspare.source.vddk.vddk_errors import CallFailed, ReaderDied, ReaderError, ReaderHung, ReaderNonsense
from warmspare.source.vddk.vddk_process import ReaderProcess
from warmspare.source.vddk.vddk_session import VddkSession

SECTOR_BYTES = 512
MAX_ITEMS = 64  # spans and holes known ahead
_COARSE_AT = SPAN_BYTES // 2  # where in its slot the coarse answer goes


@dataclass(slots=True)
class _Pending:
    """A span on its way. owner, slot: where it lies. waiting: reads of it that are not done; -1: none was begun."""

    batch: Batch
    owner: ReaderProcess | None = None
    slot: int = -1
    waiting: int = -1
    used: int = 0


@dataclass(slots=True, eq=False)
class _Query:
    """What is allocated in a window, asked twice. answers: by chunk size, once both are here."""

    start: int
    stop: int
    slot: int
    answers: dict[int, Extents | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Request:
    """A read of [start, stop) of the disk to offset `at` of the span's slot."""

    pending: _Pending
    start: int
    stop: int
    at: int


class VddkReading:
    """Attach it to a process that serves the open disk, take `next` until it is None."""

    def __init__(self, session: VddkSession, extents: Extents) -> None:
        self._session = session
        self._windows = allocated.windows(extents)
        self._held: Window | None = None
        self._batches: Iterator[Hole | Batch] = iter(())
        self._order: deque[_Pending | Hole] = deque()
        self._unplaced: deque[_Pending] = deque()
        self._todo: deque[_Request] = deque()
        self._in_flight: dict[int, tuple[_Request | _Query, int]] = {}
        self._in_flight_bytes = 0
        self._tickets = 0
        self._query: _Query | None = None
        self._process: ReaderProcess | None = None
        self._failure: ReaderError | None = None
        self._exhausted = False
        self._can_ask = True
        self._wake = asyncio.Event()

    @property
    def attached(self) -> bool:
        return self._process is not None

    def attach(self, process: ReaderProcess) -> None:
        """Go on with this process; what was under way when the last one was lost begins anew."""
        self._process, self._failure = process, None
        try:
            process.ring.reap()  # of requests that nobody waits for any more
        except ValueError as error:
            self._failure = ReaderNonsense(str(error))
        process.listen(self._completed, self._died)
        self._pump()

    def detach(self) -> ReaderProcess | None:
        """Forget what is in flight, keep what was read. The process, if there was one."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.listen(lambda: None, lambda: None)
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._todo.clear()
        if self._query is not None:
            # Whatever it was that failed: this window is not asked about again, it is read.
            self._give_back(process, self._query.slot)
            self._begin_window(self._query.start, self._query.stop, None)
            self._query = None
        self._unplaced.clear()
        for item in self._order:
            if isinstance(item, _Pending) and item.waiting != 0:
                if item.slot >= 0:
                    self._give_back(process, item.slot)
                item.owner, item.slot, item.waiting, item.used = None, -1, -1, 0
                self._unplaced.append(item)
        return process

    async def next(self) -> Span | Hole | None:
        """The next span or hole, None after the last. ReaderError as soon as anything is wrong."""
        while True:
            if self._failure is not None:
                raise self._failure
            if self._order:
                head = self._order[0]
                if isinstance(head, Hole):
                    self._order.popleft()
                    return head
                if head.waiting == 0:
                    self._order.popleft()
                    self._pump()
                    return self._span(head)
            elif self._exhausted:
                return None
            self._wake.clear()
            self._pump()
            if self._order and (isinstance(self._order[0], Hole) or self._order[0].waiting == 0):
                continue
            if self._exhausted and not self._order:
                continue
            await self._wait()

    async def _wait(self) -> None:
        if not self._in_flight:  # everything is in the consumer's hands
            await self._wake.wait()
            return
        limit_s = self._session.settings.hang_s
        try:
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        except TimeoutError:
            at = min((r.start for r, _ in self._in_flight.values()), default=0)
            self._failure = ReaderHung(f"no read came back for {limit_s:g} s (offset {at})")

    def _span(self, pending: _Pending) -> Span:
        owner, slot = pending.owner, pending.slot
        assert owner is not None
        return Span(block_numbers(pending.batch), owner.slot(slot, pending.used), lambda: self._release(owner, slot))

    def _release(self, owner: ReaderProcess, slot: int) -> None:
        self._give_back(owner, slot)
        if owner is self._process:
            self._pump()

    @staticmethod
    def _give_back(owner: ReaderProcess, slot: int) -> None:
        owner.free.append(slot)

    # -- what to read ---------------------------------------------------------------------------------------------

    def _begin_window(self, start: int, stop: int, areas: Extents | None) -> None:
        self._batches = batches(allocated.pieces(start, stop, areas))

    def _next_batch(self, process: ReaderProcess) -> Hole | Batch | None:
        """None: not yet, or no more."""
        while self._query is None:
            if (batch := next(self._batches, None)) is not None:
                return batch
            window = self._held or next(self._windows, None)
            self._held = None
            if window is None:
                self._exhausted = True
                return None
            if window[2] and self._can_ask:
                self._ask(process, window[0], window[1])
            else:
                self._batches = batches(self._unasked(window))
        return None

    def _unasked(self, window: Window | None) -> Iterator[Piece]:
        """This window and those after it, up to one that is to be asked about: small extents share spans."""
        while window is not None:
            start, stop, ask = window
            if ask and self._can_ask:
                self._held = window
                return
            yield start, stop, True
            window = next(self._windows, None)

    def _ask(self, process: ReaderProcess, start: int, stop: int) -> None:
        slot = process.free.pop()
        self._query = query = _Query(start, stop, slot)
        for chunk, at in ((allocated.FINE_BYTES, 0), (allocated.COARSE_BYTES, _COARSE_AT)):
            self._submit(process, query, native.ALLOCATED, start, stop, slot * SPAN_BYTES + at, SPAN_BYTES // 2, chunk)
        process.submitted()

    def _answered(self, process: ReaderProcess, query: _Query, chunk: int, error: int, count: int) -> None:
        """An error here is no failure of the disk's: the window is read instead."""
        at = 0 if chunk == allocated.FINE_BYTES else _COARSE_AT
        if error or count * 16 > SPAN_BYTES // 2:
            query.answers[chunk] = None
            # A library that refused once is not asked again; one whose answer makes no sense may do better next time.
            self._can_ask = self._can_ask and error in (0, native.NONSENSE)
        else:
            raw = np.frombuffer(process.slot(query.slot, SPAN_BYTES)[at : at + count * 16], dtype="<u8")
            in_bytes = raw * np.uint64(SECTOR_BYTES)
            query.answers[chunk] = allocated.areas(in_bytes, chunk, query.start, query.stop)
        if len(query.answers) == 2:
            fine, coarse = query.answers[allocated.FINE_BYTES], query.answers[allocated.COARSE_BYTES]
            found = allocated.agreed(fine, coarse, query.stop)
            if found is None and self._can_ask:
                self._session.events.emit(
                    SourceWarning(
                        message="what the library says is allocated does not add up; everything there is read",
                        offset=query.start,
                        length=query.stop - query.start,
                    )
                )
            self._give_back(process, query.slot)
            self._query = None
            self._begin_window(query.start, query.stop, found)

    # -- the ring -------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Give slots to spans, and requests to the ring, for as long as there are both."""
        process = self._process
        if process is None or self._failure is not None:
            return
        while process.free:
            if not self._unplaced:
                if len(self._order) >= MAX_ITEMS or (batch := self._next_batch(process)) is None:
                    break
                if isinstance(batch, Hole):
                    self._order.append(batch)
                    self._wake.set()
                    continue
                self._order.append(pending := _Pending(batch))
                self._unplaced.append(pending)
            self._place(self._unplaced.popleft(), process)
        settings, submitted = self._session.settings, False
        while self._todo and len(self._in_flight) < self._session.requests:
            request = self._todo[0]
            size = request.stop - request.start
            if self._in_flight and self._in_flight_bytes + size > settings.bytes:
                break
            self._todo.popleft()
            offset = request.pending.slot * SPAN_BYTES + request.at
            self._submit(process, request, native.READ, request.start, request.stop, offset, size, 0)
            submitted = True
        if submitted:
            process.submitted()

    def _place(self, pending: _Pending, process: ReaderProcess) -> None:
        pending.owner, pending.slot, pending.waiting = process, process.free.pop(), 0
        at, most = 0, self._session.request_bytes
        for start, stop in pending.batch:
            for begin in range(start, stop, most):
                end = min(begin + most, stop)
                self._todo.append(_Request(pending, begin, end, at))
                at += end - begin
                pending.waiting += 1
        pending.used = at

    def _submit(
        self,
        process: ReaderProcess,
        what: _Request | _Query,
        operation: int,
        start: int,
        stop: int,
        offset: int,
        room: int,
        chunk: int,
    ) -> None:
        self._tickets += 1
        self._in_flight[self._tickets] = (what, chunk)
        self._in_flight_bytes += stop - start if operation == native.READ else 0
        sectors = (stop - start) // SECTOR_BYTES
        taken = process.ring.submit(
            operation, self._tickets, start // SECTOR_BYTES, sectors, offset, room, chunk // SECTOR_BYTES
        )
        if not taken:
            self._failure = ReaderNonsense("the reader takes no requests from its ring")

    def _completed(self) -> None:
        process = self._process
        if process is None or self._failure is not None:
            return
        try:
            done = process.ring.reap()
        except ValueError as wrong:
            done, self._failure = [], ReaderNonsense(str(wrong))
        for ticket, error, count in done:
            what, chunk = self._in_flight.pop(ticket, (None, 0))
            if what is None:
                self._failure = ReaderNonsense("the library completed a read that was not asked for, or twice")
            elif isinstance(what, _Query):
                self._answered(process, what, chunk, error, count)
            else:
                self._in_flight_bytes -= what.stop - what.start
                if error:
                    self._failure = self._failure or _failure(error, what.start)
                else:
                    what.pending.waiting -= 1
                    self._session.progress()
        self._pump()
        self._wake.set()

    def _died(self) -> None:
        self._failure = self._failure or ReaderDied("the process that runs the library ended")
        self._wake.set()


def _failure(error: int, offset: int) -> ReaderError:
    if error == native.SHORT:
        return ReaderNonsense(f"the library said that it read offset {offset} and did not")
    if error == native.REFUSED:
        return ReaderNonsense(f"the reader refused to read offset {offset}")
    if error == native.NONSENSE:
        return ReaderNonsense(f"the library's answer to a read of offset {offset} makes no sense")
    return CallFailed("VixDiskLib_Read", error & 0xFFFF)
