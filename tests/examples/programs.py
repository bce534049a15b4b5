"""Programs in the place of those that an example names: warmspare with codes that are told before, or the real one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rigs.paths import PROJECT

EXAMPLES = PROJECT / "examples"
REAL = Path(sys.executable).parent / "warmspare"
INSTALLED = "/opt/warmspare/bin/warmspare"
"""Where the examples have it."""
AGAIN, PERSON = (3, 4, 6, 8, 130), (1, 2, 5, 7)
"""Exit codes after which another try may help, and those after which none does."""

_TOLD = """\
#!/bin/sh
printf '%s\\n' "$*" >>"{folder}/calls"
code=$(sed -n 1p "{folder}/codes")
sed -i 1d "{folder}/codes"
test "${{code:-0}}" -eq 0 || cat "{folder}/error"
exit "${{code:-0}}"
"""
_FIRST_ANSWER_LOST = """\
#!/bin/sh
printf '%s\\n' "$*" >>"{folder}/calls"
test "$(wc -l <"{folder}/calls")" -eq 1 || exec "{real}" "$@"
"{real}" "$@" >/dev/null || exit 99
cat "{folder}/error"
exit 4
"""


class Programs:
    """A folder that is to be first in the PATH. Each call of `warmspare` there is noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "calls").write_text("")
        self.error(retryable=True)

    @property
    def warmspare(self) -> Path:
        return self.folder / "warmspare"

    def error(self, *, retryable: bool) -> None:
        """What one says on stdout that does not end well."""
        event = {"event": "error", "message": "it went wrong", "retryable": retryable}
        (self.folder / "error").write_text(json.dumps(event) + "\n")

    def ends(self, *codes: int) -> None:
        """With these codes, one a call; then with 0."""
        (self.folder / "codes").write_text("".join(f"{code}\n" for code in codes))
        (self.folder / "calls").write_text("")
        self.program("warmspare", _TOLD.format(folder=self.folder))

    def loses_an_answer(self) -> None:
        """The real one, whose first run nobody hears of."""
        self.program("warmspare", _FIRST_ANSWER_LOST.format(folder=self.folder, real=REAL))

    def program(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()
