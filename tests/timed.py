"""The tests that depend on time, and by what: `python tests/again.py` runs them again and again beside busy loops.

A file, or some of its tests by words of their names. Whoever writes a test with a process, a server, a proxy, a kill or
a clock in it names it here.
"""

from __future__ import annotations

TIMED: dict[str, str] = {
    "conformance/test_directory.py: race event_loop": "processes, threads",
    "conformance/test_lease_on_stores.py": "leases that run out, servers",
    "conformance/test_s3.py": "servers, patience, paces, cancels",
    "conformance/test_servers.py": "servers, races",
    "conformance/test_store.py": "servers, races, cancels, a killed process",
    "e2e/test_all_at_once.py": "processes beside each other until a time",
    "e2e/test_audit_beside.py": "an audit beside syncs, processes",
    "e2e/test_copy.py": "kills, processes, a limit",
    "e2e/test_drill.py": "QEMU, timeouts, a follower",
    "e2e/test_drill_ec2.py": "kills, signals, timeouts, servers",
    "e2e/test_failback.py": "a proxy, servers",
    "e2e/test_failed_over.py": "clocks",
    "e2e/test_failover.py": "kills, servers",
    "e2e/test_held_point.py": "mounts, signals, kills, cancels",
    "e2e/test_limits.py": "rates",
    "e2e/test_passes.py": "ages of snapshots, rates",
    "e2e/test_prune.py": "ages, a thread beside",
    "e2e/test_resume.py": "a store that is lost, kills",
    "e2e/test_s3_rights.py": "servers, kills, a clock of whole seconds",
    "e2e/test_spool.py": "rates, kills, processes",
    "e2e/test_thin_link.py": "a shaped link",
    "e2e/test_together.py": "processes, signals, races",
    "fault/": "proxies, kills, links, servers",
    "interop/test_standin.py": "latencies, threads",
    "interop/test_standin_handle_breaches.py": "threads",
    "interop/test_standin_script.py": "hangs, delays, idle connections",
    "recover/": "a server, kills, proxies, quotas",
    "unit/test_cli.py: environment last_event memory": "processes, ticks",
    "unit/test_config.py: wrong_with_a_command": "commands that do not end",
    "unit/test_congestion.py": "waits",
    "unit/test_fleet.py": "bounds of what goes on at once",
    "unit/test_lease.py": "leases that run out, processes",
    "unit/test_limit.py": "rates shared by processes",
    "unit/test_recover_parts.py: agent floods bounded": "an agent that answers late",
    "unit/test_state.py: lock": "a process that holds a lock",
    "unit/test_wire.py": "what the kernel has sent",
    "vcenter/": "a simulator, delays, kills, sessions that expire",
}


def is_timed(path: str, name: str) -> bool:
    """path: of the file, from tests/. name: of the test."""
    for entry in TIMED:
        place, _, words = entry.partition(": ")
        if path == place or (place.endswith("/") and path.startswith(place)):
            return not words or any(word in name for word in words.split())
    return False
