"""The AWS client of a bucket: how it is made, signs, and is made anew when its credentials have expired or the bucket
is elsewhere; refuses to retry (patience.py does), and to sign away integrity: over plain HTTP to another host the
signature covers the body."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import auth, handlers
from botocore.utils import ensure_boolean

from warmspare.errors import ConfigError
from warmspare.patience import Patience
from warmspare.store.s3.manner import Addressing, Manner, add_md5
from warmspare.store.s3.s3_errors import public_url
from warmspare.store.s3.session.aws_models import session_for
from warmspare.store.s3.session.staying import StayingSession
from warmspare.store.s3.wire import Wire

POOL_SPARE = 16  # connections for small requests beside the transfers
_LOOPBACK = ("localhost", "127.", "::1")
_TALKATIVE = ("botocore", "aiobotocore", "aiohttp")
_SIGNATURE = "warmspare-s3v4"
_SHIFT = "warmspare_clock_shift_s"
clock = time.time  # this host's; another in tests


@dataclass(frozen=True, slots=True)
class AwsAccount:
    """Which AWS settings to use where it is not the environment's choice: a profile's name, a region."""

    profile: str | None = None
    region: str | None = None


NO_ACCOUNT = AwsAccount()


class Session:
    """A lazily made client. endpoint: the server's public URL, once there is one. clock_shift_s: what the server's
    clock is ahead of this host's; requests are signed with it. wire: what all its connections sent. region, addressing,
    manner: what the server taught us; the first two count from the next client on."""

    def __init__(
        self, endpoint_url: str | None, account: AwsAccount, patience: Patience, manner: Manner, *, connections: int
    ) -> None:
        self.endpoint = ""
        self.clock_shift_s = 0.0
        self.region = account.region
        self.addressing: Addressing = manner.site.addressing
        self.signs_payload = False
        self.wire = Wire()
        self.manner = manner
        self._endpoint_url, self._account, self._patience = endpoint_url, account, patience
        self._connections = connections + POOL_SPARE
        self._client: Any = None
        self._open = AsyncExitStack()
        self._opening = asyncio.Lock()
        if endpoint_url is not None:
            parts = urlsplit(endpoint_url)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise ConfigError(
                    "the endpoint URL must be http:// or https:// and a host, without credentials",
                    hint="give credentials by the AWS environment",
                )

    async def client(self) -> Any:
        """The client; made on the first call."""
        if self._client is None:
            async with self._opening:
                if self._client is None:
                    self._client = await self._connect()
        return self._client

    async def renew(self, stale: Any) -> None:
        """Replace the client `stale`, whose credentials the server refused: they are looked for anew, wherever they
        come from. Requests under way keep theirs; it is closed with the session."""
        async with self._opening:
            if self._client is stale:
                self._client = await self._connect()

    async def close(self) -> None:
        """Release the connections."""
        await self._open.aclose()
        self._client = None

    @property
    def can_be_virtual(self) -> bool:
        """Whether a bucket can stand before the server's host name: not before an address."""
        try:
            ipaddress.ip_address(urlsplit(self.endpoint).hostname or "")
        except ValueError:
            return True
        return False

    def now(self) -> float:
        """The server's clock, as far as it is known."""
        return clock() + self.clock_shift_s

    async def _connect(self) -> Any:
        for name in _TALKATIVE:  # their debug output holds session tokens and signatures
            logger = logging.getLogger(name)
            if logger.level < logging.WARNING:
                logger.setLevel(logging.WARNING)
        session = session_for(self._account.profile)
        told = session.get_config_variable("s3") or {}
        wanted = self.manner.site.sign_payload
        if wanted is None:
            wanted = ensure_boolean(told.get("payload_signing_enabled"))
        client = await self._make(session, sign_payload=wanted)
        parts = urlsplit(client.meta.endpoint_url)
        if not wanted and parts.scheme == "http" and not (parts.hostname or "").startswith(_LOOPBACK):
            wanted = True
            client = await self._make(session, sign_payload=True)
        self.signs_payload = wanted
        self.manner.follow(
            requests=_supported(session, "request_checksum_calculation"),
            answers=_supported(session, "response_checksum_validation"),
        )
        self.endpoint = public_url(client.meta.endpoint_url)
        self.region = self.region or client.meta.region_name
        events = client.meta.events
        # without it: no round trip before each part, and no wait for a server that never sends a 100
        events.unregister("before-call.s3", handlers.add_expect_header)
        events.unregister("before-parameter-build.s3", handlers.validate_bucket_name)  # opening.py has looked
        events.register("before-call.s3", self._before_call)
        events.register("before-sign.s3", self._tell_shift)
        events.register_first("choose-signer.s3", self._choose_signature)
        return client

    async def _make(self, session: AioSession, *, sign_payload: bool) -> Any:
        style: dict[str, Any] = {"addressing_style": self.addressing} if self.addressing != "auto" else {}
        config = AioConfig(
            connect_timeout=self._patience.connect_s,
            read_timeout=self._patience.stall_s,
            max_pool_connections=self._connections,
            retries={"mode": "standard", "total_max_attempts": 1},
            connector_args={"socket_factory": self.wire.socket},
            http_session_cls=StayingSession,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"payload_signing_enabled": sign_payload, **style},
        )
        try:
            made = session.create_client("s3", endpoint_url=self._endpoint_url, config=config, region_name=self.region)
            return await self._open.enter_async_context(made)
        except ValueError as error:
            raise ConfigError(
                "the endpoint URL or the region is not valid", hint="check both, or AWS_ENDPOINT_URL and AWS_REGION"
            ) from error

    def _before_call(self, model: Any, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        # A redirect is ours to follow, or to tell of: the client would ask for the bucket's region, and fail oddly.
        context.setdefault("s3_redirect", {})["redirected"] = True
        if model.name == "DeleteObjects" and self.manner.delete_by_md5():
            add_md5(params)

    def _tell_shift(self, request: Any, **_: Any) -> None:
        request.context[_SHIFT] = self.clock_shift_s

    def _choose_signature(self, signature_version: Any, **_: Any) -> str | None:
        return _SIGNATURE if self.clock_shift_s and signature_version in ("v4", "s3v4") else None


def _supported(session: AioSession, name: str) -> bool:
    """Whether the AWS environment leaves checksums to us: it says when_required where a server takes none."""
    return str(session.get_config_variable(name)).lower() != "when_required"


class _ShiftedAuth(auth.S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """Signs with the server's time. botocore takes this host's, and a server refuses one that is 15 minutes off."""

    def _modify_request_before_signing(self, request: Any) -> None:
        now = datetime.datetime.fromtimestamp(clock() + request.context[_SHIFT], datetime.UTC)
        request.context["timestamp"] = now.strftime(auth.SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)


auth.AUTH_TYPE_MAPS[_SIGNATURE] = _ShiftedAuth
