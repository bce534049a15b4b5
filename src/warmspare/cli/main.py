"""The console command: from a line to its command, and errors of usage in one sentence; owns no work."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence

from warmspare.cli.command_table import ABOUT, BEFORE, COMMANDS, GROUPS, about, command, flag_of, options_of
from warmspare.cli.peer_words import answer
from warmspare.cli.telling.output import (
    DocumentOutput,
    JsonOutput,
    begin,
    complain,
    final_code,
    prepare_streams,
)
from warmspare.ending import PROCESS, json_asked
from warmspare.errors import ConfigError
from warmspare.version import __version__

COMPLETE = "__complete"  # what the scripts below share/ ask


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    begin()
    if arguments[:1] == [COMPLETE]:
        from warmspare.cli.completion.candidates import complete

        return complete(arguments[1:])
    try:
        words = _in_front(list(arguments))
        name = " ".join(words[:2]) if words and words[0] in GROUPS else "".join(words[:1])
        code = _run(name, words[len(name.split()) :]) if name in COMMANDS else _help(words)
    except ConfigError as wrong:
        complain(wrong.sentence)
        if form := json_asked(arguments):
            from warmspare.observe.kinds.run_events import Error  # here: --help needs no events

            output = DocumentOutput() if form == "json" else JsonOutput()
            output.event(Error.of(wrong))
            output.end()
        return wrong.exit_code
    return final_code(code)


def _run(name: str, words: list[str]) -> int:
    from warmspare.cli.command_parser import parsed

    function = command(name)
    try:
        given = parsed(name, about(function), options_of(function), words)
    except SystemExit:  # of --help
        return 0
    return function(given)


def _in_front(words: list[str]) -> list[str]:
    """The same with the command first: what stands before it goes behind."""
    index = 0
    while index < len(words) and (flag := flag_of(words[index])) in BEFORE:
        index += 1 + (BEFORE[flag] if words[index] == flag else 0)
    if index and index >= len(words):
        raise ConfigError("no command is given", hint="see `warmspare --help`")
    if not index or words[index].startswith("-"):
        return words[index:]
    length = 2 if words[index] in GROUPS else 1
    return [*words[index : index + length], *words[:index], *words[index + length :]]


def _help(words: list[str]) -> int:
    """What there is; or what a word that is no command may have meant."""
    if words[:1] == ["help"] and len(words) > 1:
        return run([*words[1:3], "--help"])
    if words[:1] in (["--version"], ["version"]):
        print(f"warmspare {__version__}")
        return 0
    if words and words[0] in GROUPS and (len(words) == 1 or words[1] in ("-h", "--help")):
        print(_listed(f"warmspare {words[0]} COMMAND [OPTIONS]", words[0] + " "))
        return 0 if len(words) > 1 else ConfigError.exit_code
    if not words or words[0] in ("-h", "--help", "help"):
        print(_listed("warmspare COMMAND [OPTIONS]", ""))
        return 0
    if not (words[0] in GROUPS or words[0].startswith("-")) and (said := answer(words)):
        raise ConfigError(f"there is no command {words[0]!r}", hint=said)
    known = [name for name in COMMANDS if words[0] not in GROUPS or name.startswith(words[0] + " ")]
    word = " ".join(words[:2]) if words[0] in GROUPS else words[0]
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean `warmspare {near[0]}`? " if near else ""
    kind = "option" if word.startswith("-") else "command"
    raise ConfigError(f"there is no {kind} {word.partition('=')[0]!r}", hint=f"{hint}see `warmspare --help`")


def _listed(usage: str, prefix: str) -> str:
    """The commands that begin like this, and what each is for."""
    lines = [f"Usage: {usage}", "", ABOUT, "", "Commands:"]
    for name in COMMANDS:
        if name.startswith(prefix):
            lines.append(f"  {name:<20} {about(command(name)).split('. ')[0].rstrip('.')}.")
    return "\n".join([*lines, "", "`warmspare help COMMAND` says more of one; --version shows the version."])


def main() -> None:
    """Entry point of the console command."""
    # numpy's linear algebra is not used here; its threads would only cost their start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    prepare_streams()
    code = run(sys.argv[1:])
    PROCESS.over(code)
    sys.stdout.flush()  # what the parser printed
    PROCESS.close(final_code(code))
