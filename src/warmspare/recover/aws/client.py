"""Requests to EC2 and to the EBS direct APIs, each tried on by this one layer with a deadline; refuses to know what
they are for.

Clients are aiobotocore's, with its own retries off. What a failure says of another try is in errors.py, for how
long it is tried in patience.py.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from aiobotocore.config import AioConfig

from warmspare.errors import ConfigError
from warmspare.outside.paging import EndlessError, Paging
from warmspare.outside.parsing import ODD
from warmspare.patience import Again, Patience, Tries
from warmspare.recover.aws.aws_errors import CLIENT_ERRORS, AwsError, aws_error
from warmspare.store.s3.session.aws_models import session_for
from warmspare.store.s3.session.staying import RefusingSession

log = logging.getLogger("warmspare.recover")

QUIET_S = 2.0  # of failing, before anybody is told
TELL_EVERY_S = 10.0
UNSEEN_S = 150.0  # AWS: for up to two minutes after StartSnapshot others may not know the snapshot
_SECRET = ("UserData",)  # parameters
_TALKATIVE = ("botocore", "aiobotocore", "aiohttp")

OnRetry = Callable[[str, int, float], None]


class Gate(Protocol):
    """What each try of a request waits at, and what hears how it went."""

    async def turn(self) -> None:
        """Wait until the next request may be sent."""

    def throttled(self) -> None:
        """AWS asked for fewer."""

    def succeeded(self) -> None:
        """One request was carried out."""


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """What the environment is not to decide. connections: the most requests at once, for each service."""

    region: str | None = None
    profile: str | None = None
    connections: int = 16
    patience: Patience = field(default_factory=Patience)


class Aws:
    """One account in one region. Lazily connected; close it, or use it as an asynchronous context manager.

    on_retry: hears (message, tries so far, seconds until the next) of what has been failing for a while.
    """

    def __init__(self, settings: AwsSettings, *, on_retry: OnRetry | None = None) -> None:
        self._settings, self._on_retry = settings, on_retry
        self._clients: dict[str, Any] = {}
        self._open = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._told_s = float("-inf")
        self._answered = False
        self._dated: tuple[datetime.datetime, float] | None = None  # AWS's time, and when by time.monotonic()

    async def __aenter__(self) -> Aws:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Release the connections."""
        await self._open.aclose()
        self._clients.clear()

    async def region(self) -> str:
        """The region that requests go to."""
        return str((await self._client("ec2")).meta.region_name)

    def now(self) -> datetime.datetime:
        """The time by AWS's clock, as its last answer had it; by this host's before the first. What is to be compared
        with what another host wrote down, or with what AWS dated, is told by this one."""
        if self._dated is None:
            return datetime.datetime.now(datetime.UTC)
        at, since_s = self._dated
        return at + datetime.timedelta(seconds=time.monotonic() - since_s)

    async def call(
        self,
        service: str,
        operation: str,
        *,
        about: str,
        gate: Gate | None = None,
        unseen_until: float = 0.0,
        patience_s: float | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """One request, tried again as long as its failures and our patience allow.

        service: `ec2` or `ebs`. operation: as the client names it (`start_snapshot`). about: what it concerns, for
        messages. gate: awaited before each try. unseen_until: until when (time.monotonic) "not found" means "not
        visible yet" and is tried again. patience_s: how long it is worth trying, where that is less than usual.
        AwsError for every failure.
        """
        patience = self._settings.patience
        if patience_s is not None:
            patience = replace(patience, deadline_s=min(patience_s, patience.deadline_s))
        tries = Tries(patience)
        renewed = False
        while True:
            if gate:
                await gate.turn()
            client = await self._client(service)
            try:
                answer = await self._once(client, operation, about, parameters)
            except AwsError as error:
                self._answered = self._answered or bool(error.status)
                if gate and error.throttled:
                    gate.throttled()
                if error.stale_token and not renewed:
                    renewed = True
                    self._clients.pop(service, None)  # its credentials are looked for anew; it is closed with the rest
                    continue
                unseen = error.missing and time.monotonic() < unseen_until
                again = Again.ALWAYS if unseen else error.again
                pause_s = tries.failed(again, known=self._answered)
                if pause_s is None:
                    error.tries = tries.count
                    raise
                self._tell(error, tries, pause_s)
                # A throttled request waits at the gate, whose rate is lower now; without one it waits here.
                await asyncio.sleep(min(pause_s, 0.05) if gate and error.throttled else pause_s)
            else:
                self._answered = True
                if gate:
                    gate.succeeded()
                return answer

    async def pages(
        self, service: str, operation: str, key: str, *, about: str, **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """The items under `key` of all pages of a listing that is paged by NextToken."""
        token: dict[str, Any] = {}
        paging = Paging()
        while True:
            answer = await self.call(service, operation, about=about, **parameters, **token)
            goes_on(paging, answer, about)
            for item in answer.get(key, []):
                yield item
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}

    async def _once(self, client: Any, operation: str, about: str, parameters: dict[str, Any]) -> dict[str, Any]:
        name = "".join(part.capitalize() for part in operation.split("_"))
        patience = self._settings.patience
        try:
            async with asyncio.timeout(patience.connect_s + patience.stall_s):
                answer: dict[str, Any] = await getattr(client, operation)(**parameters)
                self._dated = _dated(answer) or self._dated
                return answer
        except (*CLIENT_ERRORS, *ODD) as error:
            raise aws_error(error, name, about, _hidden(parameters)) from error

    async def _client(self, service: str) -> Any:
        if service not in self._clients:
            async with self._opening:
                if service not in self._clients:
                    self._clients[service] = await self._connect(service)
        return self._clients[service]

    async def _connect(self, service: str) -> Any:
        for name in _TALKATIVE:  # their debug output holds session tokens and signatures
            logger = logging.getLogger(name)
            if logger.level < logging.WARNING:
                logger.setLevel(logging.WARNING)
        settings = self._settings
        config = AioConfig(
            connect_timeout=settings.patience.connect_s,
            read_timeout=settings.patience.stall_s,
            max_pool_connections=settings.connections,
            retries={"mode": "standard", "total_max_attempts": 1},
            http_session_cls=RefusingSession,
        )
        try:
            session = session_for(settings.profile)
            # The client itself only looks at AWS_DEFAULT_REGION; every other of Amazon's looks at AWS_REGION.
            region = settings.region or os.environ.get("AWS_REGION") or None
            made = session.create_client(service, config=config, region_name=region)
            return await self._open.enter_async_context(made)
        except ValueError as error:
            hint = (
                "correct AWS_REGION, AWS_ENDPOINT_URL or the service's own (AWS_ENDPOINT_URL_EC2, AWS_ENDPOINT_URL_EBS)"
            )
            raise ConfigError("the AWS endpoint or region is not valid", hint=hint) from error
        except CLIENT_ERRORS as error:
            raise aws_error(error, f"connecting to {service}", service) from error

    def _tell(self, error: AwsError, tries: Tries, pause_s: float) -> None:
        log.info("trying again in %.1f s: %s", pause_s, error)
        now = time.monotonic()
        if self._on_retry and tries.failing_s >= QUIET_S and now - self._told_s >= TELL_EVERY_S:
            self._told_s = now
            self._on_retry(error.sentence, tries.count, pause_s)


def _hidden(parameters: dict[str, Any]) -> list[str]:
    """What of a request is the user's own secret, and may stand in what AWS says of it."""
    return [str(parameters[key]) for key in _SECRET if parameters.get(key)]


def _dated(answer: dict[str, Any]) -> tuple[datetime.datetime, float] | None:
    text = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return email.utils.parsedate_to_datetime(text).astimezone(datetime.UTC), time.monotonic()
    except (TypeError, ValueError):
        return None


def goes_on(paging: Paging, answer: dict[str, Any], about: str) -> None:
    """A page of a listing has come. AwsError where the listing does not end."""
    token = answer.get("NextToken") or None
    try:
        paging.page((token,), token)
    except EndlessError as error:
        hint = "run again; if it stays, tell AWS, or whoever runs the endpoint"
        raise AwsError(str(error), where=about, hint=hint, again=Again.NEVER) from None
