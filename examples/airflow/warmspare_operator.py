"""An operator of Airflow that makes restore points; in the folder of plugins, or beside the DAG.

It calls the command, so that Airflow's workers need not have what warmspare depends on: an environment of its own is
enough. What may help when it is tried again fails the task, which Airflow then retries; the rest fails it for good.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

NOT_PROTECTED = 7


class WarmspareSyncOperator(BaseOperator):
    """A restore point of VMs of the configuration; none: of all. Gives the labels of the points, by the VM's ID.

    request_id: what this run is called, the same for each try of it. environment: of the command, instead of the
    worker's own. command: the program, and options of it that stand before its own.
    """

    template_fields: Sequence[str] = ("vms", "request_id", "environment")

    def __init__(
        self,
        *,
        vms: Sequence[str] = (),
        request_id: str = "{{ dag.dag_id }} {{ run_id }}",
        environment: dict[str, str] | None = None,
        command: Sequence[str] = ("/opt/warmspare/bin/warmspare",),
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.vms, self.request_id, self.environment, self.command = list(vms), request_id, environment, list(command)
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> dict[str, str]:
        chosen = [word for vm in self.vms for word in ("--vm", vm)] or ["--all"]
        words = [*self.command, "sync", *chosen, "--request-id", self.request_id, "--json"]
        points: dict[str, str] = {}
        failed: list[dict[str, Any]] = []
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=self.environment) as self._process:
            assert self._process.stdout
            for line in self._process.stdout:
                event = json.loads(line)
                if event["event"] in ("sync.done", "sync.unneeded"):
                    points[event["vm"]] = event["point"]
                elif event["event"] in ("sync.failed", "error"):
                    failed.append(event)
                if event["event"] != "progress":
                    self.log.info("%s", line.rstrip())
        code = self._process.returncode
        if code == 0:
            return points
        why = "; ".join(event["message"] for event in failed) or f"warmspare ended with {code}"
        if code == NOT_PROTECTED:
            why = f"a disk is not protected by its restore point: {points}"
        if code < 0 or any(event["retryable"] for event in failed):  # killed; or a try of that VM's may help
            raise AirflowException(why)
        raise AirflowFailException(why)

    def on_kill(self) -> None:
        """It takes back its snapshots, and ends."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
