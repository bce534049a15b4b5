"""A lease on one key of a store, held while a VM is worked on; refuses to take one whose holder may live.

It saves work and keeps snapshots in order; what makes publishing safe is the conditional write of the restore
point. Expiry is judged by the store's clock by those who want the lease, and by the time since the last
renewal was sent by the one who holds it, so a holder knows before another may start. One that is dated ahead of the
store's clock is watched by their own instead, for as long as a living holder would let pass between two renewals and
more; one with a lifetime that no sender asks for counts for the usual one. A lease that ran out while the
store was out of reach, and that nobody took, is its holder's again with the next renewal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Self

import msgspec
from msgspec.structs import asdict, replace

from warmspare.debts import owe
from warmspare.errors import LeaseError, NotFoundError, StoreError
from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.observe.kinds.repository_events import LeaseWatched
from warmspare.outside import records
from warmspare.outside.records import Count, Line
from warmspare.outside.text import shown
from warmspare.store.contract import ObjectInfo, Store
from warmspare.store.swaps import swap

log = logging.getLogger("warmspare.store")

TTL_S = 60.0
LONGEST_S = 120.0  # no sender asks for more: such a lifetime is a mistake, or was written to keep senders out
CLOCK_GRAIN_S = 2.0  # S3 gives times in whole seconds, and this for both of the two compared
RELEASE_S = 10.0  # for giving the lease back
ENDING_S = 5.0  # the same where the process was asked to end
FAILED_RELEASE_S = 2.0  # the same where the store has just failed
_BODY_BYTES = 16 << 10
_TRIES = 8  # of taking a lease that changes at the same moment

OnWatch = Callable[[float, str], None]


def watching(events: Events, vm: VmId) -> OnWatch:
    """Says that another's lease is watched."""
    return lambda seconds, why: events.emit(LeaseWatched(vm=vm, seconds=round(seconds, 1), message=why))


class Holder(msgspec.Struct, frozen=True):
    """What a lease's object says.

    token: random, of one taking. process_start: clock ticks since boot at which the process began.
    pid_namespace: which set of pids it is that `pid` belongs to (containers share the boot, not the pids).
    """

    token: Line
    host: Line
    boot_id: Line
    pid_namespace: Line
    pid: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]
    process_start: Annotated[int, msgspec.Meta(ge=-1, le=(1 << 63) - 1)]
    ttl_s: Annotated[float, msgspec.Meta(gt=0, lt=1e6)]
    renewed: Count = 0
    free: bool = False

    @classmethod
    def this_process(cls, ttl_s: float) -> Self:
        """This process, with a new token."""
        pid = os.getpid()
        return cls(
            token=secrets.token_hex(16),
            host=socket.gethostname(),
            boot_id=_boot_id(),
            pid_namespace=_pid_namespace(),
            pid=pid,
            process_start=_process_start(pid) or 0,
            ttl_s=ttl_s,
        )

    def encode(self) -> bytes:
        """As stored: ASCII, for a host's name need not be UTF-8."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Holder | None:
        """None for anything but a whole lease of this form."""
        try:
            return records.decode(raw, Holder)
        except records.UnfitError:
            return None

    @property
    def lifetime_s(self) -> float:
        """How long it counts without a renewal."""
        return self.ttl_s if self.ttl_s <= LONGEST_S else TTL_S

    @property
    def is_dead(self) -> bool:
        """Whether it was a process of this host and boot that has ended. False where that can't be told."""
        if not self.boot_id or self.boot_id != _boot_id():
            return False
        if not self.pid_namespace or self.pid_namespace != _pid_namespace():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass  # it lives and is another user's
        start = _process_start(self.pid)  # None where /proc hides other users' processes
        return start is not None and start != self.process_start


class Lease:
    """A lease that this process holds; made by `hold`.

    lost: set when a renewal finds that another has it. confirm() is what to call before each step that must not be
    done without it.
    """

    def __init__(self, store: Store, key: str, ttl_s: float, on_watch: OnWatch | None = None) -> None:
        self._on_watch = on_watch
        self.lost = asyncio.Event()
        self._store, self._key, self._ttl_s = store, key, ttl_s
        self._me = Holder.this_process(ttl_s)
        self._etag: str | None = None
        self._until = 0.0  # by _clock()

    @classmethod
    @contextlib.asynccontextmanager
    async def hold(
        cls, store: Store, key: str, *, ttl_s: float = TTL_S, on_watch: OnWatch | None = None
    ) -> AsyncIterator[Lease]:
        """Take the lease, renew it every third of `ttl_s` while the block runs, give it back after it. on_watch: hears
        for how many seconds another's is watched before it is taken, and why.

        LeaseError when another holds it, naming host, pid and expiry. StoreError when the store fails. A
        cancel gives the lease back; where that fails too it runs out after `ttl_s`.
        """
        if ttl_s <= 0:
            raise ValueError("ttl_s must be positive")
        lease = cls(store, key, ttl_s, on_watch)
        within_s = RELEASE_S
        owed = owe(f"the lease {lease._where()}", ENDING_S, lambda: lease._release(within_s), last=True)
        try:
            await lease._acquire()
        except LeaseError:
            owed.drop()
            raise
        except BaseException:
            await owed.settle()  # the write may have been carried out
            raise
        renewal = asyncio.create_task(lease._renew_on(), name=f"lease {key}")
        try:
            yield lease
        except BaseException as error:
            within_s = FAILED_RELEASE_S if _store_failed(error) else RELEASE_S
            raise
        finally:
            renewal.cancel()
            try:
                await asyncio.wait([renewal])
            finally:
                await owed.settle()

    @classmethod
    async def demand_free(cls, store: Store, key: str, *, on_watch: OnWatch | None = None) -> None:
        """LeaseError if somebody may hold the lease. Nothing is written: for who finds no room to take it."""
        lease = cls(store, key, TTL_S, on_watch)
        there = await lease._look()
        if there is not None:
            await lease._refuse_if_held(*there)

    async def confirm(self) -> None:
        """Return once the lease is ours, renewed first if it had run out. LeaseError if another took it, StoreError if
        the store can't be asked."""
        if not self.lost.is_set() and _clock() >= self._until and not await self._renew():
            self.lost.set()
        self.check()

    def check(self) -> None:
        """LeaseError unless the lease is ours now."""
        if self.lost.is_set() or _clock() >= self._until:
            raise LeaseError(
                "the lease was lost: it was not renewed in time, or another took it",
                where=self._where(),
                hint="run again; nothing was published",
                retryable=True,
            )

    async def _acquire(self) -> None:
        for _ in range(_TRIES):
            there = await self._look()
            if there is not None:
                info, holder = there
                await self._refuse_if_held(info, holder)
            sent = _clock()
            mine = await swap(self._store, self._key, self._me.encode(), etag=None if there is None else there[0].etag)
            if mine is not None:
                self._etag, self._until = mine.etag, sent + self._ttl_s
                return
        raise LeaseError(
            "others take and give back the lease all the time",
            where=self._where(),
            hint="run again",
            retryable=True,
        )

    async def _look(self) -> tuple[ObjectInfo, Holder | None] | None:
        """The lease as it stands there; None if there is none. The tag is not newer than the holder."""
        info = await self._store.head(self._key)
        if info is None:
            return None
        try:
            return info, Holder.decode(await self._store.get(self._key, max_bytes=_BODY_BYTES))
        except NotFoundError:
            return None

    async def _refuse_if_held(self, info: ObjectInfo, holder: Holder | None) -> None:
        """LeaseError if somebody may hold the lease. One that can't be read is held until it is old."""
        if holder is not None and (holder.free or holder.is_dead or holder.token == self._me.token):
            return
        ttl_s = holder.lifetime_s if holder is not None else self._ttl_s
        now_s = await self._store.now()
        left_s = info.modified_s + ttl_s + CLOCK_GRAIN_S - now_s
        if left_s > ttl_s + 2 * CLOCK_GRAIN_S:  # the store's clock was put back since
            if await self._stands_still(info, ttl_s + CLOCK_GRAIN_S):
                return
            left_s = ttl_s
        if left_s < 0:
            return
        who = f"process {holder.pid} on {_shown(holder.host)}" if holder is not None else "an unknown program"
        at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s + left_s))
        odd = ""
        if holder is not None and holder.ttl_s > ttl_s:
            odd = f"; it asks for {holder.ttl_s:.0f} s, which no sender does, and counts for {ttl_s:.0f} s"
        held = LeaseError(
            f"{who} holds the lease, which runs out at {at} (in {left_s:.0f} s) unless renewed{odd}",
            where=self._where(),
            hint="wait for it to end, or end it and run again",
            retryable=True,
        )
        if holder is not None:
            held.host, held.pid = holder.host, holder.pid
        held.until_s = now_s + left_s
        raise held

    async def _stands_still(self, seen: ObjectInfo, for_s: float) -> bool:
        """Whether nobody renews or gives back the lease for so long, by this host's clock."""
        if self._on_watch:
            self._on_watch(for_s, f"the lease at {self._where()} is dated ahead of the store's clock")
        until = _clock() + for_s
        while (left_s := until - _clock()) > 0:
            await asyncio.sleep(min(left_s, for_s / 8))
            info = await self._store.head(self._key)
            if info is None or info.etag != seen.etag:
                return False
        return True

    async def _renew_on(self) -> None:
        """Renew until cancelled or lost; a store that fails is asked again, whether or not the lease has run out."""
        pause_s = self._ttl_s / 3
        try:
            while True:
                await asyncio.sleep(pause_s)
                try:
                    async with asyncio.timeout(self._ttl_s / 3):
                        if not await self._renew():
                            break
                    pause_s = self._ttl_s / 3
                except (StoreError, TimeoutError) as error:
                    log.info("the lease %s was not renewed: %s", self._where(), error or "no answer in time")
                    pause_s = self._ttl_s / 20
        except asyncio.CancelledError:
            raise  # given back, not lost
        except BaseException:
            self.lost.set()
            raise
        self.lost.set()

    async def _renew(self) -> bool:
        """False if another has the lease."""
        for _ in range(2):
            following = replace(self._me, renewed=self._me.renewed + 1)
            self._me = following  # before it is sent: no two writes may be equal, and this one may be cut off
            sent = _clock()
            info = await swap(self._store, self._key, following.encode(), etag=self._etag)
            if info is not None:
                self._etag, self._until = info.etag, sent + self._ttl_s
                return True
            if not await self._find_own():
                return False
        return False

    async def _find_own(self) -> bool:
        """Whether the object there is ours (a write of ours whose answer was lost); takes its tag over."""
        there = await self._look()
        if there is None or there[1] is None or there[1].token != self._me.token or there[1].free:
            return False
        self._etag = there[0].etag
        return True

    async def _release(self, within_s: float = RELEASE_S) -> BaseException | None:
        """Mark the lease free if it is still ours, by compare-and-swap; a failure, which is returned, leaves it to run
        out. One that ran out is left as it is: anybody may take it."""
        if self._etag is not None and _clock() >= self._until:
            return None
        try:
            freed = replace(self._me, renewed=self._me.renewed + 1, free=True).encode()
            async with asyncio.timeout(within_s):
                for _ in range(2):
                    if self._etag is not None and await swap(self._store, self._key, freed, etag=self._etag):
                        return None
                    if not await self._find_own():
                        return None
        except (StoreError, TimeoutError) as error:
            log.info(
                "the lease %s was not given back and will run out: %s", self._where(), error or "no answer in time"
            )
            return error
        return None

    def _where(self) -> str:
        return f"{self._store.uri.rstrip('/')}/{self._key}"


def _store_failed(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_store_failed(one) for one in error.exceptions)
    return isinstance(error, StoreError) and error.retryable


def _clock() -> float:
    """Seconds since boot, those asleep included: a suspended host's lease runs out too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _process_start(pid: int) -> int | None:
    """Clock ticks since boot at which a process began (proc(5), stat, field 22).

    None if it can't be read, -1 for one that has ended and is not yet collected.
    """
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
        fields = raw[raw.rindex(b")") + 2 :].split()  # the name before it may hold anything
        return -1 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _shown(text: str) -> str:
    """A host's name fit to be shown: the object may hold anything."""
    return shown(text[:80]) or "an unnamed host"
