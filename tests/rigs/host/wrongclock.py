"""A process whose clock is wrong: a library that is loaded before libc's and dates everything otherwise.

The clock of the host itself is everybody's. Time since boot stays as it is, as where a clock is set.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

/* Seconds that the clock is ahead; with jumps, by turns ahead and back, another way every tenth of a second. */
static long wrong(void) {
    const char *ahead = getenv("CLOCK_AHEAD"), *jumps = getenv("CLOCK_JUMPS");
    long seconds = ahead ? atol(ahead) : 0;
    if (jumps) {
        struct timespec now;
        int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
        real(CLOCK_MONOTONIC, &now);
        if (now.tv_nsec / 100000000 % 2) seconds = -seconds;
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, out);
    if (!code && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) out->tv_sec += wrong();
    return code;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    int (*real)(struct timeval *, void *) = dlsym(RTLD_NEXT, "gettimeofday");
    int code = real(out, zone);
    if (!code && out) out->tv_sec += wrong();
    return code;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


def build(home: Path) -> Path:
    """The library."""
    source, made = home / "wrongclock.c", home / "wrongclock.so"
    source.write_text(_SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made


def environment(library: Path, ahead_s: int, *, jumps: bool = False) -> dict[str, str]:
    """Of a process with that clock."""
    out = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_AHEAD": str(ahead_s)}
    return {**out, "CLOCK_JUMPS": "1"} if jumps else out
