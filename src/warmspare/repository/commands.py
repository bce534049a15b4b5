"""Commands of ours as a remedy names them: with all their arguments, ready to be typed; refuses to run any."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from warmspare.store.base import Store

_AMAZON = (".amazonaws.com", ".amazonaws.com.cn")


def command(store: Store, name: str, vm: str, *more: str) -> str:
    """A command for one VM of the repository that a store holds, between backquotes. more: further arguments."""
    words = ["warmspare", *name.split(), "--vm", vm, "--repo", store.uri, *more]
    if store.uri.startswith("s3://") and not (urlsplit(store.server).hostname or "").endswith(_AMAZON) and store.server:
        words += ["--endpoint-url", store.server]
    return f"`{shlex.join(words)}`"
