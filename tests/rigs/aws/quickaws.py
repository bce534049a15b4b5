"""Shorter waits for AWS than are right for AWS: between two tries, and between two looks at a snapshot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import warmspare.recover.aws.client as aws
import warmspare.recover.staging.stager as stage
from warmspare.patience import Patience, Tries


def quick(replace: Callable[[Any, str, Any], None]) -> None:
    """replace: setattr, or what undoes itself."""
    settings = stage.StageSettings

    def sooner(patience: Patience) -> Tries:
        return Tries(dataclasses.replace(patience, pause_s=0.02, most_s=0.3))

    def often(*arguments: Any, **named: Any) -> stage.StageSettings:
        return settings(*arguments, **{"poll_s": 0.05, **named})

    replace(aws, "Tries", sooner)
    replace(stage, "StageSettings", often)
