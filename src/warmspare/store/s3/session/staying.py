"""HTTP sessions of AWS clients that stay with the host they were sent to; refuses redirects, and answers without end.

aiohttp would follow one, with a signature that is made for another host; and then tell of that host's troubles as if
they were the server's.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession

from warmspare.outside.parsing import SwellingError, demand_plain
from warmspare.threads import finish

ANSWER_BYTES = 8 << 20  # a page of a listing has a thousand keys
ANSWER_PARTS = 500_000


class RedirectedError(Exception):
    """What came was a redirect. A client wraps it: see `redirected`."""

    def __init__(self, status: int) -> None:
        super().__init__(f"a redirect ({status})")
        self.status = status


def redirected(error: BaseException) -> RedirectedError | None:
    """The one that an error of a client is about."""
    inner = getattr(error, "kwargs", {}).get("error")
    return inner if isinstance(inner, RedirectedError) else None


def unreadable(error: BaseException) -> SwellingError | None:
    """The reason why an answer was not parsed, where that is what the error of a client is about."""
    inner = error if isinstance(error, SwellingError) else getattr(error, "kwargs", {}).get("error")
    return inner if isinstance(inner, SwellingError) else None


class _Answer(aiohttp.ClientResponse):
    """An answer that is read whole (a listing, an error): no longer than any is, and fit to be parsed."""

    async def read(self) -> bytes:
        if self._body is None:
            parts, total = [], 0
            async for piece in self.content.iter_any():
                total += len(piece)
                if total > ANSWER_BYTES:
                    self.close()
                    raise SwellingError(f"it has more than {ANSWER_BYTES >> 20} MiB")
                parts.append(piece)
            body = b"".join(parts)
            demand_plain(body, ANSWER_PARTS)
            self._body = body
        return self._body


class _Staying:
    def __init__(self, session: aiohttp.ClientSession, *, read: bool) -> None:
        self._session, self._read = session, read

    async def request(self, method: str, **more: Any) -> aiohttp.ClientResponse:
        answer = await self._session.request(method, allow_redirects=False, **more)
        if 300 <= answer.status < 400 and not self._read:
            answer.close()
            raise RedirectedError(answer.status)
        return answer


class StayingSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """For a client's `http_session_cls`: a redirect is an answer like any other. S3's says where the bucket is."""

    _read = True

    async def _create_connector(self, proxy_url: str | None) -> aiohttp.TCPConnector:
        # Certificates are read in a thread, which a cancel must not leave behind with their file.
        return await finish(super()._create_connector(proxy_url))

    async def _get_session(self, proxy_url: str | None) -> _Staying:
        session = await super()._get_session(proxy_url)
        session._response_class = _Answer  # the client makes the session, and passes no class of answers on
        return _Staying(session, read=self._read)


class RefusingSession(StayingSession):
    """The same where no answer is ever a redirect: it is RedirectedError. The client would try to parse its page."""

    _read = False
