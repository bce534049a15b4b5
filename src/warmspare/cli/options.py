"""The options that several commands share, and the checks of their values; owns no behaviour."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from warmspare.errors import ConfigError

Vm = Annotated[str, typer.Option("--vm", metavar="NAME", help="What the VM is called in the repository.")]
Repo = Annotated[
    str, typer.Option("--repo", metavar="URI", help="The repository: s3://BUCKET/PREFIX, file:///PATH or a path.")
]
Endpoint = Annotated[
    str | None,
    typer.Option("--endpoint-url", metavar="URL", help="The S3 server, where it is not Amazon's own."),
]
Json = Annotated[bool, typer.Option("--json", help="Write events as JSON Lines to stdout and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")]


def check_endpoint(url: str | None) -> str | None:
    """The URL itself; ConfigError, without repeating it, if it holds credentials or is none."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises on a malformed port)
    except ValueError:
        raise ConfigError("the endpoint URL is malformed", hint="write http://HOST:PORT or https://HOST") from None
    if "@" in parts.netloc:
        raise ConfigError(
            "the endpoint URL holds credentials", hint="give them by the AWS environment, never in a URL"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("the endpoint URL is not one of http or https", hint="write http://HOST:PORT or https://HOST")
    return url


def state_root() -> Path:
    """Where a sender keeps its state: $XDG_STATE_HOME/warmspare, ~/.local/state/warmspare, or
    /var/lib/warmspare for root."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "warmspare"
    if os.geteuid() == 0:
        return Path("/var/lib/warmspare")
    return Path.home() / ".local" / "state" / "warmspare"
