"""Runs GRUB's script as far as it decides what is started: control flow, functions, contexts; owns no command.

A condition that can't be told (of the hardware, of a file that can't be read) has both of its branches run, each on a
copy; what these leave differently is a doubt from there on. What can't be followed at all is `Lost`, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown
from warmspare.recover.readiness.guest.entries import FilePlace
from warmspare.recover.readiness.loaders import devices as looks
from warmspare.recover.readiness.loaders.devices import LoaderDevices, block_list
from warmspare.recover.readiness.loaders.grub.bounds import Bounds
from warmspare.recover.readiness.loaders.grub.language import script
from warmspare.recover.readiness.loaders.grub.language.conditions import negated
from warmspare.recover.readiness.loaders.grub.language.grub_values import Doubt, Truth, Value, filled
from warmspare.recover.readiness.loaders.grub.language.nodes import (
    Block,
    Command,
    For,
    Function,
    If,
    Node,
    Script,
    While,
    Word,
)
from warmspare.recover.readiness.loaders.grub.state import OWN, State, merged

NOWHERE = "grub:"  # the device of a search that found none, where its variable stayed empty
MAX_NESTED = 40  # functions, files and compound commands in each other


class Lost(Exception):
    """What GRUB does from here on can't be told. str: why, as a clause."""


class _Return(Exception):
    """A function or a file ends here."""


class _Break(Exception):
    """A loop ends here, or its turn (again)."""

    def __init__(self, *, again: bool) -> None:
        super().__init__()
        self.again = again


class Booted(Exception):
    """GRUB starts what it has loaded."""


class LeftGrub(Exception):
    """GRUB ends without a system. str: how, as a clause."""


class Ended(Exception):
    """Another configuration's menu counts from here on. Raised by who knows what a menu is, with what comes of it."""


@dataclass(frozen=True, slots=True)
class Given:
    """A command's words, filled in. words[0]: its name."""

    words: list[Value]
    block: Block | None
    source: str


Run = Callable[["GrubMachine", State, Given], Truth]


class GrubMachine:
    """One start of GRUB.

    configure: has another configuration's menu count; returns where it has none. left_out: what no environment block
    gives this time. looked: the files that were asked for, and why they were not read. unfound: what was searched for
    and is nowhere. environment: what environment blocks gave.
    """

    def __init__(
        self,
        devices: LoaderDevices,
        commands: dict[str, Run],
        configure: Callable[[State, Value], None],
        left_out: frozenset[str] = frozenset(),
    ) -> None:
        self.devices, self.bounds, self.configure, self.left_out = devices, Bounds(), configure, left_out
        self.looked, self.unfound, self.environment = dict[FilePlace, str](), list[str](), dict[str, str]()
        self._commands, self._depth, self._file = commands, 0, ""
        self._held = dict[tuple[FilePlace, str], bool | Unknown]()

    def file(self, state: State, text: str, name: str) -> None:
        """Run a whole file's text. name: for people. NoScript where it is none."""
        before, self._file = self._file, name
        try:
            self.run(script.parsed(text, self.bounds), state, may_return=True)
        finally:
            self._file = before

    def block(self, state: State, block: Block, source: str) -> None:
        """Run an entry's commands. source: the file and the line that it begins in."""
        before, self._file = self._file, source.rpartition(" line ")[0] or source
        try:
            self.run(script.parsed(block.text, self.bounds, line=block.line), state, may_return=True)
        finally:
            self._file = before

    def run(self, nodes: Script, state: State, *, may_return: bool = False) -> None:
        self._depth += 1
        if self._depth > MAX_NESTED:
            raise Exceeded(f"GRUB's configuration has more than {MAX_NESTED} commands in each other")
        try:
            for node in nodes:
                self._one(node, state)
        except _Return:
            if not may_return:
                raise
        finally:
            self._depth -= 1

    def _one(self, node: Node, state: State) -> None:
        self.bounds.step()
        match node:
            case Command():
                self._command(node, state)
            case If():
                self._if(node, state)
            case While():
                self._while(node, state)
            case For():
                values = [value for word in node.words for value in self.filled(word, state)]
                for value in values:
                    self.bounds.step()
                    state.set(node.name, value)
                    if not self._turn(node.body, state):
                        break
            case Function():
                state.functions[node.name] = node.body

    def _if(self, node: If, state: State) -> None:
        """The first branch whose condition holds; and each on the way of which that can't be told, on a copy."""
        perhaps = list[tuple[State, str]]()
        for condition, body in node.branches:
            self._certain(condition, state, perhaps)
            truth = state.status
            if truth is True:
                self._certain(body, state, perhaps)
                break
            if isinstance(truth, Doubt):
                self.bounds.fork()
                taken = state.copy()
                perhaps.append((taken, truth.why))
                self._certain(body, taken, perhaps)
            state.status = True  # as it is where no branch is taken
        else:
            self._certain(node.otherwise, state, perhaps)
        for taken, why in reversed(perhaps):
            state.become(merged(taken, state, why))

    def _certain(self, nodes: Script, state: State, perhaps: list[tuple[State, str]]) -> None:
        """Run these. What may happen or not must not lead elsewhere."""
        try:
            self.run(nodes, state)
        except (_Return, _Break, Booted, LeftGrub, Ended):
            if perhaps:
                raise Lost(perhaps[-1][1]) from None
            raise

    def _while(self, node: While, state: State) -> None:
        while True:
            self.bounds.step()
            self.run(node.condition, state)
            truth = negated(state.status) if node.until else state.status
            if isinstance(truth, Doubt):
                raise Lost(truth.why)
            if not truth or not self._turn(node.body, state):
                state.status = True
                return

    def _turn(self, body: Script, state: State) -> bool:
        """A loop's turn; whether there may be another."""
        try:
            self.run(body, state)
        except _Break as end:
            return end.again
        return True

    def filled(self, word: Word, state: State) -> list[Value]:
        return filled(word, state.get, state.parameters[1:], self.bounds)

    def _command(self, node: Command, state: State) -> None:
        words = [value for word in node.words for value in self.filled(word, state)]
        invert = bool(words) and words[0] == "!"
        words = words[1:] if invert else words
        if not words:
            return
        given = Given(words, node.block, f"{self._file} line {node.line}")
        status = self._called(words[0], given, state)
        state.status = negated(status) if invert else status

    def _called(self, name: Value, given: Given, state: State) -> Truth:
        if isinstance(name, Doubt):
            raise Lost(name.why)
        match name:
            case "return":
                state.status = len(given.words) < 2 or given.words[1] == "0"
                raise _Return
            case "break" | "continue":
                raise _Break(again=name == "continue")
        function = state.functions.get(name)
        if isinstance(function, Doubt):
            raise Lost(function.why)
        if function is not None:
            before, state.parameters = state.parameters, tuple(given.words)
            state.status = True
            self.run(function, state, may_return=True)
            state.parameters = before
            return state.status
        if command := self._commands.get(name):
            return command(self, state, given)
        if "=" in name:
            return self._commands["set"](self, state, Given(["set", *given.words], given.block, given.source))
        return self._commands[""](self, state, given)

    def place(self, state: State, value: Value) -> FilePlace | Unknown:
        """The file that GRUB means."""
        if isinstance(value, Doubt):
            return Unknown(value.why)
        device: Value
        if value.startswith("("):
            device, closed, path = value[1:].partition(")")
            if not closed:
                return Unknown(f"{value[:80]!r} is no file of GRUB's")
        else:
            device, path = state.get("root"), value
        if isinstance(device, Doubt):
            return Unknown(device.why)
        if value.startswith("()"):
            return FilePlace(NOWHERE, path)
        if not path.startswith("/"):
            return Unknown(f"GRUB reads {value[:80]!r} by block numbers, which is not looked at")
        return FilePlace(named(device), path)

    @staticmethod
    def _blocks(value: Value) -> FilePlace | None:
        """The environment block that SUSE's, Fedora's and newer GRUB keep in Btrfs' reserved space: `(root)512+1`."""
        if isinstance(value, Doubt) or not value.startswith("("):
            return None
        device, _, path = value[1:].partition(")")
        return FilePlace(named(device), path) if device and block_list(path) else None

    def exists(self, state: State, kind: str, value: Value) -> Truth:
        if kind == "-e" and isinstance(value, str) and value.startswith("(") and value.endswith(")"):
            files = self.devices.files(named(value[1:-1]))  # a device, not a file
            return Doubt(files.why) if isinstance(files, Unknown) else files is not ABSENT
        place = self.place(state, value)
        if isinstance(place, Unknown):
            return Doubt(place.why)
        if place.device == NOWHERE:
            return False
        if (place, kind) not in self._held:
            self.bounds.look()
            self._held[place, kind] = looks.holds(self.devices, place, kind)
        answer = self._held[place, kind]
        return Doubt(answer.why) if isinstance(answer, Unknown) else answer

    def read(self, state: State, value: Value) -> Answer[bytes]:
        """A file's bytes, or those of a list of blocks; and that they were asked for."""
        place = self._blocks(value) or self.place(state, value)
        if isinstance(place, Unknown):
            return place
        self.bounds.look()
        answer = ABSENT if place.device == NOWHERE else looks.read(self.devices, place)
        self.looked[place] = "" if isinstance(answer, bytes) else "not there" if answer is ABSENT else answer.why
        return answer


def named(device: str) -> str:
    """A device of GRUB's as `FilePlace` has it."""
    if device == OWN:
        return ""
    known = device.startswith(("uuid:", "label:", "file:", "partuuid:", "grub:"))
    return device if known else f"grub:{device}"
