"""Commands of ours as a remedy names them: with all their arguments, ready to be typed; refuses to run any."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from warmspare.store.contract import Store

_AMAZON = (".amazonaws.com", ".amazonaws.com.cn")


def typed(name: str, vm: str, uri: str, *more: str) -> str:
    """A command for one VM of the repository with that URI, between backquotes. more: further arguments."""
    return f"`{shlex.join(['warmspare', *name.split(), '--vm', vm, '--repo', uri, *more])}`"


def command(store: Store, name: str, vm: str, *more: str) -> str:
    """The same for a repository that is open: with its server, where that is not Amazon's."""
    other = store.uri.startswith("s3://") and not (urlsplit(store.server).hostname or "").endswith(_AMAZON)
    server = ["--endpoint-url", store.server] if other and store.server else []
    return typed(name, vm, store.uri, *more, *server)
