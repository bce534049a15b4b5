"""What a sender notes of the newest restore point that it saw, and of the chain that it goes on in; owns these records
alone, for who only looks at them.

They lie in `<state>/<vm>/<repository id>`, beside what local_state.py keeps there.
"""

from __future__ import annotations

import msgspec

from warmspare.model.ids import VmId
from warmspare.outside.records import Hex32, Line, SequenceOrNone, Sha256OrNone

STATE_RECORD, ADOPTED_RECORD = "state.json", "adopted.json"


class StateRecord(msgspec.Struct, frozen=True):
    """Which repository and restore point this state belongs to."""

    repository: Hex32
    uri: Line
    vm: VmId
    sequence: SequenceOrNone
    sha256: Sha256OrNone


class AdoptedRecord(msgspec.Struct, frozen=True):
    """In which chain of the repository the VM goes on, where it is not that of its own ID."""

    chain: VmId
