"""From the file to settings; owns the file's own troubles, and refuses a file with anything wrong in it."""

from __future__ import annotations

import os
import re
import shlex
import stat
import tomllib
from pathlib import Path

from warmspare.config.lines import MAX_PARTS, too_deep
from warmspare.config.problems import ConfigPlace, Problem, Problems, SettingsError
from warmspare.config.reading import ConfigReading
from warmspare.config.settings import Settings
from warmspare.errors import ConfigError
from warmspare.outside.regular_files import open_file

FILE_BYTES = 1 << 20
_POSITION = re.compile(r" *\((?:at line ([0-9]+), column [0-9]+|at end of document)\)$")


def load(path: Path) -> Settings:
    """Read the file. No secret is read and nothing that it names is looked at.

    SettingsError with all that is wrong in it; ConfigError if it can't be read.
    """
    hint = "name one by --config; `warmspare config example` prints one to begin with"
    text, mode = read_text(path, "configuration", hint)
    settings = parse(text, path)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        plain = [secret for secret in settings.secrets() if secret.how == "plain"]
        hint = f"run `chmod 600 {shlex.quote(str(path))}`"
        found = [secret.place.problem("the file holds a secret and is open to other users", hint) for secret in plain]
        if found:
            raise SettingsError(found)
    return settings


def read_text(path: Path, kind: str, hint: str) -> tuple[str, int]:
    """What a file for people holds, and its mode. kind: `configuration`; hint: what to do where there is none.
    ConfigError if it can't be read, SettingsError if it is no text."""
    try:
        with open_file(path, follow=True) as file:
            raw, mode = file.read(FILE_BYTES + 1), os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        raise ConfigError(f"there is no such {kind} file", where=str(path), hint=hint) from None
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "this is no path"
        raise ConfigError(f"the {kind} can't be read: {reason}", where=str(path)) from None
    if len(raw) > FILE_BYTES:
        raise ConfigError(f"the file is too long for a {kind}", where=str(path), hint="name another")
    try:
        return raw.decode("utf-8-sig"), mode
    except UnicodeDecodeError as error:
        place = ConfigPlace(str(path), "", raw.count(b"\n", 0, error.start) + 1)
        raise SettingsError([place.problem("the file is not UTF-8 text", "save it as UTF-8")]) from None


def parse(text: str, path: Path) -> Settings:
    """Settings of a text. path: only to name the file in messages. SettingsError with all that is wrong."""
    document, problems = parse_document(text, path)
    settings = ConfigReading(document, problems).settings(path)
    if problems.found:
        raise SettingsError(problems.found)
    return settings


def parse_document(text: str, path: Path) -> tuple[dict[str, object], Problems]:
    """A text as TOML, and where its problems are to be noted. SettingsError if it is none."""
    if (line := too_deep(text)) is not None:
        what = f"a key has more than {MAX_PARTS} parts"
        raise SettingsError(
            [ConfigPlace(str(path), "", line).problem(what, "no table is nested so deeply; correct it")]
        )
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError([_malformed(error, text, str(path))]) from None
    return document, Problems(str(path), text)


def _malformed(error: Exception, text: str, file: str) -> Problem:
    """What the parser found, in our words or in its own where these hold nothing of the text."""
    message = str(error)
    position = _POSITION.search(message)
    line: int | None = None
    if position:
        line = int(position[1]) if position[1] else text.rstrip("\n").count("\n") + 1
        message = message[: position.start()]
    if not isinstance(error, tomllib.TOMLDecodeError):
        what = "a number is too long" if isinstance(error, ValueError) else "arrays or tables are nested too deeply"
    elif any(word in message for word in ("twice", "overwrite", "mutate", "namespace", "uplicate", "redefine")):
        what = "a key or table is defined twice"
    elif "(" in message or any(len(quoted) > 4 for quoted in re.findall("'([^']*)'", message)):
        what = "this is not TOML"  # the parser repeats a part of the text, and that may be a secret
    else:
        what = "this is not TOML: " + message[:1].lower() + message[1:]
    return ConfigPlace(file, "", line).problem(what, "correct it; text values stand in quotes")
