"""Opens the store of a repository of the configuration, with all that the configuration says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from warmspare.cli import options

if TYPE_CHECKING:
    from warmspare.config.settings import RepositorySettings
    from warmspare.store.contract import Store


def open_configured(repository: RepositorySettings, on_retry: Callable[[str, int, float], None] | None = None) -> Store:
    """Nothing is asked of it yet. ConfigError if its URI is none."""
    from warmspare.store.opening import open_store

    return open_store(
        repository.uri,
        endpoint_url=repository.endpoint_url,
        profile=repository.profile,
        region=repository.region,
        site=options.site_of(repository.s3) if repository.uri.startswith("s3://") else None,
        on_retry=on_retry,
    )
