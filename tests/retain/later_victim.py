"""A victim (rigs/kills/victim.py) in whose world it is later than here: by LATER_S seconds, for the repository in
LATER_REPO."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from retain.clockwork import Clockwork
from rigs.kills import victim

if __name__ == "__main__":
    Clockwork(Path(os.environ["LATER_REPO"]), pytest.MonkeyPatch()).ahead_s = float(os.environ["LATER_S"])
    sys.exit(victim.main())
