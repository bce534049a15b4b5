"""What one run of GRUB's script may take, all of it together; refuses more than any system has."""

from __future__ import annotations

from warmspare.recover.disks.programs import Exceeded

MAX_WORDS = 60_000  # of one run, and parts of words
MAX_TEXT = 8 << 20  # characters that one run may put together
MAX_STEPS = 20_000
MAX_FORKS = 400
MAX_LOOKS = 200  # at files


class Bounds:
    """What all of one run may take. Each of these raises Exceeded."""

    def __init__(self) -> None:
        self._words, self._text, self._steps, self._forks, self._looks = (
            MAX_WORDS,
            MAX_TEXT,
            MAX_STEPS,
            MAX_FORKS,
            MAX_LOOKS,
        )

    def word(self) -> None:
        self._words -= 1
        if self._words < 0:
            raise Exceeded(f"GRUB's configuration has more than {MAX_WORDS} words")

    def text(self, characters: int) -> None:
        self._text -= characters
        if self._text < 0:
            raise Exceeded(f"GRUB's configuration makes more than {MAX_TEXT >> 20} MiB of text")

    def step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise Exceeded(f"GRUB's configuration runs more than {MAX_STEPS} commands")

    def fork(self) -> None:
        self._forks -= 1
        if self._forks < 0:
            raise Exceeded(f"GRUB's configuration has more than {MAX_FORKS} conditions that can't be told")

    def look(self) -> None:
        self._looks -= 1
        if self._looks < 0:
            raise Exceeded(f"GRUB's configuration looks at more than {MAX_LOOKS} files")
