"""`warmspare config`: is the configuration right, and what does it mean; an example to begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from warmspare.cli import options
from warmspare.cli.run import AllProblems, act
from warmspare.cli.telling.output import Show

if TYPE_CHECKING:
    from warmspare.observe.event import Event


class ExampleOptions(options.Told):
    pass


def example(given: ExampleOptions) -> int:
    """Print a configuration to begin with, every key explained."""
    from importlib.resources import files

    from warmspare.cli.telling.output import write_raw

    write_raw(files("warmspare.config").joinpath("example.toml").read_text(encoding="utf-8").rstrip("\n") + "\n")
    return 0


class SchemaOptions(options.Told):
    pass


def schema(given: SchemaOptions) -> int:
    """Print a JSON Schema of the configuration, for editors."""
    from warmspare.cli.telling.output import write_raw
    from warmspare.config.schema import schema_text

    write_raw(schema_text())
    return 0


class CheckOptions(options.Told):
    config: options.Config = None


def check(given: CheckOptions) -> int:
    """Validate the configuration, read every secret it names, show what it means."""
    from warmspare.engine.requests.setup_requests import ConfigCheckRequest

    def request() -> ConfigCheckRequest:
        return ConfigCheckRequest(config=options.config_file(given.config))

    return act(
        request,
        given,
        _Meaning(),
        problems=AllProblems("the configuration", hint="correct them and check again", events=True),
    )


class _Meaning(Show):
    def event(self, event: Event) -> bool:
        from warmspare.observe.kinds.setup_events import ConfigOk

        return isinstance(event, ConfigOk)

    def end(self, result: Any) -> None:
        from warmspare.cli.telling.config_table import show

        show(result)
