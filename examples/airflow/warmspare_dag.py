"""A DAG of Airflow 3: a restore point of every VM of the configuration, each quarter of an hour."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG
from warmspare_operator import WarmspareSyncOperator

with DAG(
    "warmspare",
    schedule="*/15 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a slot that was missed is no more: the next point has all of it
    max_active_runs=1,
    default_args={
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": True,
    },
):
    WarmspareSyncOperator(
        task_id="sync",
        command=[os.environ.get("WARMSPARE", "/opt/warmspare/bin/warmspare")],
    )
