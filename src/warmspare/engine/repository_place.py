"""Where a repository is and what its site demands; opens its store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from warmspare.config import values
from warmspare.config.s3_settings import S3Settings
from warmspare.config.timetable import Timetable

if TYPE_CHECKING:
    from warmspare.config.settings import RepositorySettings
    from warmspare.store.contract import Store
    from warmspare.store.s3.manner import Site


class RepositoryPlace(msgspec.Struct, frozen=True):
    """A repository, as a program names it.

    uri: s3://BUCKET/PREFIX, file:///PATH or a path; "": the configuration's (wiring/usual_repository.py), of the file
    `config`, or of the usual one. The others are of S3 only. endpoint_url: of a server that is not
    Amazon's own. profile, region: of AWS, where the environment is not to decide. s3: what its site demands.
    single_sender: no other host sends there, for a server that does not keep conditional writes. limit: how fast it may
    be sent to.
    """

    uri: str = ""
    endpoint_url: str | None = None
    profile: str | None = None
    region: str | None = None
    s3: S3Settings | None = None
    single_sender: bool = False
    config: Path | None = None
    limit: Timetable | None = None

    @classmethod
    def of(cls, settings: RepositorySettings) -> RepositoryPlace:
        """A `[repository.NAME]` of the configuration."""
        return cls(
            settings.uri,
            settings.endpoint_url,
            settings.profile,
            settings.region,
            settings.s3,
            settings.single_sender,
            limit=settings.limit,
        )

    def open(
        self,
        on_retry: Callable[[str, int, float], None] | None = None,
        *,
        usual: Site | None = None,
        concurrency: int | None = None,
    ) -> Store:
        """Its store; nothing is asked of it yet, and whoever opens it closes it. usual: what its site demands where
        `s3` says nothing. concurrency: see open_store. ConfigError if anything of it is wrong."""
        from warmspare.store.opening import CONCURRENCY, open_store

        return open_store(
            self.uri,
            concurrency=concurrency or CONCURRENCY,
            endpoint_url=self.endpoint,
            profile=self.profile,
            region=self.region,
            site=self.site or usual,
            on_retry=on_retry,
        )

    @property
    def endpoint(self) -> str | None:
        """The URL itself; ConfigError, without repeating it, if it holds credentials or is none."""
        return None if self.endpoint_url is None else values.check_endpoint(self.endpoint_url)

    @property
    def site(self) -> Site | None:
        """What the store takes; None where nothing is demanded, and of a directory."""
        return site_of(self.s3) if self.s3 is not None and self.uri.startswith("s3://") else None


def site_of(settings: S3Settings) -> Site:
    """The configuration's words as the store takes them."""
    from warmspare.store.s3.manner import Site  # here: a run on a directory must not pay for the AWS client

    return Site(**asdict(settings))
