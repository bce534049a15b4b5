"""The real command as a user with no rights, in a process of its own: root would be refused nothing."""

from __future__ import annotations

import subprocess

from rig import Outcome, python
from rigs.host.hearing import all_heard

AS_NOBODY = """
import contextlib, io, os, sys
import aiobotocore, encodings.idna, rich.progress, uvloop  # what is imported late, while that is still allowed
import warmspare.apply.receiver, warmspare.sync.sender, warmspare.source.raw, warmspare.store.opening
import warmspare.cli.run, warmspare.engine.engine_runs, warmspare.engine.requests.sync_requests
from warmspare.cli.main import run
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    run(["sync", "/nowhere/disk", "--vm", "v", "--repo", "/nowhere/repo"])
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(run(sys.argv[1:]))
"""


def as_nobody(*arguments: object) -> Outcome:
    """The command as a user with no rights; root would be refused nothing."""
    done = subprocess.run([python(), "-c", AS_NOBODY, *map(str, arguments), "--json"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return Outcome(done.returncode, all_heard(done.stdout), done.stderr)
