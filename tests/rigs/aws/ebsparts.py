"""What the stand-in for EBS is made of: snapshots, quotas, faults on demand, errors of the API; serves nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from aiohttp import web

BLOCK = 512 << 10


class Refusal(Exception):
    """An error of the API. reason: of EBS, "" for EC2 and for errors without one."""

    def __init__(self, status: int, code: str, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.reason = status, code, message, reason


def invalid(reason: str, message: str) -> Refusal:
    return Refusal(400, "ValidationException", message, reason)


@dataclass
class Bucket:
    """A quota: `rate` a second, `burst` at once."""

    rate: float
    burst: float
    level: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def take(self) -> bool:
        now = time.monotonic()
        self.level = max(0.0, self.level - (now - self.at) * self.rate)
        self.at = now
        if self.level + 1 > self.burst:
            return False
        self.level += 1
        return True


@dataclass
class Snapshot:
    """blocks: what was written to this one: index → SHA-256. sealed: CompleteSnapshot was accepted at that time.
    recovering: it comes back from the Recycle Bin."""

    id: str
    gib: int
    parent: str
    tags: dict[str, str]
    description: str
    encrypted: bool
    kms_key: str
    timeout_s: float
    started: datetime
    seen_from: float
    touched: float
    blocks: dict[int, bytes] = field(default_factory=dict)
    sealed: float | None = None
    error: bool = False
    recovering: bool = False
    puts: int = 0


@dataclass
class Faults:
    """Chances by which requests go wrong. lost: carried out, and the connection is cut before the answer.

    keeps: what is stored of a block in place of what was put and acknowledged. echo: the checksum that the answer to a
    put names, by its block and the right one.
    """

    throttle: float = 0.0
    server_error: float = 0.0
    cut: float = 0.0
    lost: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    refuse: Callable[[str], Refusal | None] = lambda action: None
    keeps: Callable[[int, bytes], bytes] = lambda index, data: data
    echo: Callable[[int, str], str] = lambda index, checksum: checksum


def throttled(action: str) -> Refusal:
    return Refusal(400, "RequestThrottledException", f"too many {action}", "ACCOUNT_THROTTLED")


def numbered(asked: dict[str, str], prefix: str) -> list[str]:
    return [value for key, value in asked.items() if key.startswith(prefix) and key[len(prefix) :].isdigit()]


def signed(request: web.Request, service: str) -> None:
    """A request must be signed for its service; with which key is not looked at."""
    if f"/{service}/aws4_request" not in request.headers.get("Authorization", ""):
        raise Refusal(403, "UnauthorizedOperation" if service == "ec2" else "AccessDeniedException", "not signed")


def cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def xml(text: str, status: int = 200) -> web.Response:
    return web.Response(text=f'<?xml version="1.0" encoding="UTF-8"?>{text}', content_type="text/xml", status=status)
