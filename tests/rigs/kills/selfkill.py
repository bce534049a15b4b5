"""The real command in a process of its own that the kernel kills at a moment which a test names."""

from __future__ import annotations

import json
import signal

from rigs.host import forked

_PROGRAM = """
import importlib, json, os, signal, sys
from warmspare.cli.main import run

def found(path):
    module, _, names = path.partition(":")
    owner = importlib.import_module(module)
    *outer, last = names.split(".")
    for name in outer:
        owner = getattr(owner, name)
    return owner, last

constants, call, left = json.loads(sys.argv[1]), sys.argv[2], [int(sys.argv[3])]
for path, value in constants.items():
    setattr(*found(path), value)
owner, name = found(call)
real = getattr(owner, name)

def counted(*arguments, **more):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **more)

setattr(owner, name, counted)
sys.exit(run(sys.argv[4:]))
"""


def killed_at(call: str, nth: int, *words: object, constants: dict[str, object] | None = None) -> None:
    """Run a command until it calls a function for the nth time: `module:Class.method`. constants: of modules, which are
    others there, named likewise. It is killed by SIGKILL, or this fails."""
    done = forked.run("-c", _PROGRAM, json.dumps(constants or {}), call, nth, *words, timeout=120)
    assert done.returncode == -signal.SIGKILL, (done.returncode, done.stdout, done.stderr)
