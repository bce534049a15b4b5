"""The sockets of a store's connections, and what they have put on the wire; refuses to say what any of it was for.

Counted as a router counts it: each Ethernet frame with its IP and TCP headers, acknowledgements and what was sent again
among them. The kernel tells, per socket, bytes and segments (tcp(7), TCP_INFO; linux/tcp.h, struct tcp_info).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

from warmspare.store.contract import Pace

UNSENT_BYTES = 256 << 10  # that the kernel takes of a connection before the link does
USER_BYTES = 320 << 10  # that may wait in this process for a socket whose kernel buffer is full: a chunk and 64 KiB
ETHERNET_BYTES = 14
_IP_BYTES = {socket.AF_INET: 20, socket.AF_INET6: 40}
_TCP_BYTES, _TIMESTAMPS_BYTES = 20, 12
# Where the kernel does not count (before Linux 4.19): headers of full segments, heads of requests, some sent again.
ESTIMATE = 0.07
_TCP_NOTSENT_LOWAT = 25  # tcp(7); Python names it from 3.12 on
_OPTIONS, _SEGMENTS_OUT, _NOT_SENT, _BYTES_SENT = 5, 136, 144, 200  # offsets in struct tcp_info
_INFO_BYTES = 208
_WITH_TIMESTAMPS = 1


class Wire:
    """Makes the sockets of connections and counts what went through all of them so far, the closed ones included."""

    def __init__(self) -> None:
        self._open: dict[socket.socket, int] = {}  # what each had sent when it was last looked at
        self._ended = 0
        self._known = True

    def socket(self, address: Any) -> socket.socket:
        """A new one; an aiohttp socket factory. The kernel would take megabytes of each part at once and keep them:
        memory that nobody counts, progress that is none, and parts that begin at the same time would end at the same
        time."""
        made = socket.socket(family=address[0], type=address[1], proto=address[2])
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        for one in [one for one in self._open if one.fileno() < 0]:
            self._ended += self._open.pop(one)
        self._open[made] = 0
        return made

    def begin_anew(self) -> None:
        """What was sent until now does not count any more."""
        if self.sent() is not None:
            self._ended = -sum(self._open.values())

    def sent(self) -> tuple[int, int] | None:
        """(bytes on the wire so far, bytes that at most wait to be sent). None: the kernel does not tell.

        Of a connection that was closed what it sent after the last look is missing.
        """
        waiting = 0
        for one in list(self._open):
            info = b""
            with contextlib.suppress(OSError):  # closed
                info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
            if not info:
                self._ended += self._open.pop(one)
                continue
            if len(info) < _INFO_BYTES:
                self._known = False
                continue
            count, unsent = _read(info, one.family)
            self._open[one] = count
            waiting += unsent + USER_BYTES if unsent else 0
        return (self._ended + sum(self._open.values()), waiting) if self._known else None


def _read(info: bytes, family: int) -> tuple[int, int]:
    """(bytes on the wire, bytes not yet sent)."""
    (segments,) = struct.unpack_from("=I", info, _SEGMENTS_OUT)
    (unsent,) = struct.unpack_from("=I", info, _NOT_SENT)
    (sent,) = struct.unpack_from("=Q", info, _BYTES_SENT)
    stamps = _TIMESTAMPS_BYTES if info[_OPTIONS] & _WITH_TIMESTAMPS else 0
    headers = ETHERNET_BYTES + _IP_BYTES.get(socket.AddressFamily(family), 40) + _TCP_BYTES + stamps
    return sent + segments * headers, unsent


class WirePace:
    """A pace for bodies under which all that goes over the wire keeps to another pace.

    What went out beside the bodies (heads, headers, what was sent again) is taken from that pace before the next piece
    of any body.
    """

    def __init__(self, wire: Wire, pace: Pace) -> None:
        self._wire, self._pace = wire, pace
        self._granted = 0  # bytes taken from the pace, for bodies and what was beside them
        self._piece = 0
        self._estimated = 0.0

    async def take(self, most: int) -> int:
        """A `Pace`. A cancel may leave some of what was beside the bodies uncounted."""
        beside = self._owed()
        while (got := await self._pace(beside + most)) <= beside:
            beside -= got
        count = got - beside
        self._granted += count
        self._piece = count
        self._estimated += count * ESTIMATE
        return count

    def _owed(self) -> int:
        """Bytes that went out and were never taken from the pace; they count as taken from now on."""
        told = self._wire.sent()
        if told is None:
            owed, self._estimated = int(self._estimated), 0.0
            return owed
        sent, waiting = told
        # What a connection that broke had not sent yet never will be: it must not pay for anything else.
        self._granted = min(self._granted, sent + waiting + 2 * self._piece)
        owed = max(0, sent - self._granted)
        self._granted += owed
        return owed
