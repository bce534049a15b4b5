"""Of several errors at once the one that says most; and the name of the VM in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from warmspare.errors import (
    ConfigError,
    IntegrityError,
    LeaseError,
    RecoverError,
    SourceError,
    StoreError,
    WarmspareError,
)

# Where several stages failed together, the most telling error is the one to show.
_TELLING = (IntegrityError, SourceError, LeaseError, ConfigError, RecoverError, StoreError, WarmspareError)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of groups, cancellations left out."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    elif not isinstance(error, asyncio.CancelledError):
        yield error


def telling(error: BaseException) -> BaseException:
    """The one error of a group that says most."""
    found = list(leaves(error))
    for kind in _TELLING:
        for one in found:
            if isinstance(one, kind):
                return one
    return found[0] if found else error


@contextmanager
def naming(vm: str) -> Iterator[None]:
    """Every error that leaves it names the VM."""
    try:
        yield
    except (WarmspareError, BaseExceptionGroup) as caught:
        for error in leaves(caught):
            if isinstance(error, WarmspareError):
                error.about(vm)
        raise
