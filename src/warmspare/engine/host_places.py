"""Where a run keeps what the next one needs on this host; owns the rule of the usual directories."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events
    from warmspare.source.logins import Logins


def state_root() -> Path:
    """Where a sender keeps its state: $XDG_STATE_HOME/warmspare, ~/.local/state/warmspare, or
    /var/lib/warmspare for root."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):
        return Path(base) / "warmspare"
    if os.geteuid() == 0:
        return Path("/var/lib/warmspare")
    return home("XDG_STATE_HOME") / ".local" / "state" / "warmspare"


def config_path(given: Path | None) -> Path:
    """The configuration: the one that was given, /etc/warmspare/warmspare.toml for root, or
    $XDG_CONFIG_HOME/warmspare/warmspare.toml (~/.config/warmspare/warmspare.toml)."""
    if given is not None:
        return given
    if os.geteuid() == 0:
        return Path("/etc/warmspare/warmspare.toml")
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if base.startswith("/") else home("XDG_CONFIG_HOME") / ".config"
    return folder / "warmspare" / "warmspare.toml"


def home(instead: str) -> Path:
    """The user's home directory. instead: the variable that names what is looked for there. ConfigError where neither
    the environment nor the system knows one: in a container, say."""
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigError("this user has no home directory", hint=f"set {instead}, or HOME") from None


@dataclass(frozen=True, slots=True)
class HostPlaces:
    """What is kept in the state directory of this host: what its runs share, and all that nobody names another place
    for. given: another directory than the usual one."""

    given: Path | None = None

    @property
    def root(self) -> Path:
        """The directory. ConfigError where there is no usual one: not every run needs it."""
        return self.given or state_root()

    @property
    def daemon_socket(self) -> Path:
        """Where the daemon of this state directory listens, if there is one. ConfigError."""
        return self.root / "daemon.sock"

    def folder(self, *names: str, root: Path | None = None) -> Path:
        """A folder of the state directory, or of another root, that need not be there yet. StoreError if a link stands
        on the way to it, which would lead elsewhere."""
        from warmspare.outside.regular_files import demand_folders
        from warmspare.state.local_files import STATE_DIRECTORY, local_io

        root = root or self.root
        folder = root.joinpath(*names)
        with local_io(STATE_DIRECTORY, folder):
            demand_folders(root, folder)
        return folder

    def logins(self, events: Events, *, again: bool = False) -> Logins:
        """What a run's sessions share of their accounts, with other processes of the host too. again: try what was
        refused before."""
        from warmspare.source.logins import Logins
        from warmspare.state.notes import Notes

        return Logins(Notes(self.root / "logins"), events, again=again)
