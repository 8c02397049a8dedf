"""What a running pooler has cost so far: CPU time and memory of a process, its threads and its children, from /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import attrs

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@attrs.frozen(kw_only=True)
class CpuReading:
    """CPU time that a process tree has used up to one moment.

    `user_ticks` and `system_ticks` include ended threads and reaped children but come in steps of 10 ms;
    `thread_ns` is exact and covers only the threads alive now.
    """

    user_ticks: int
    system_ticks: int
    thread_ns: dict[int, int]


@attrs.frozen(kw_only=True)
class CpuSpent:
    """CPU time between two readings, in microseconds."""

    total_us: float
    user_us: float
    system_us: float


def process_tree(*pids: int) -> list[int]:
    """`pids` and all their descendants that are alive."""
    tree = list(pids)
    for each in tree:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                tree += [int(word) for word in children.read_text().split()]
            except OSError:  # the thread has ended since the listing
                continue
    return tree


def read_cpu(*pids: int) -> CpuReading:
    """CPU time of `pids`, their threads and their descendants until now.

    Source: proc(5), /proc/PID/stat fields 14 to 17 (utime, stime, cutime, cstime) and kernel documentation
    "sched-stats", /proc/PID/task/TID/schedstat, first field: nanoseconds on a CPU.
    Raises:
        ProcessLookupError: one of `pids` is gone.
    """
    user = system = 0
    threads: dict[int, int] = {}
    for each in process_tree(*pids):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError as gone:
            if each in pids:
                raise ProcessLookupError(f"process {each} is gone") from gone
            continue
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
        for schedstat in Path(f"/proc/{each}/task").glob("*/schedstat"):
            try:
                threads[int(schedstat.parent.name)] = int(schedstat.read_text().split()[0])
            except (OSError, IndexError):  # ended since the listing, or a kernel without CONFIG_SCHED_INFO
                continue
    return CpuReading(user_ticks=user, system_ticks=system, thread_ns=threads)


def cpu_spent(before: CpuReading, after: CpuReading) -> CpuSpent:
    """What lies between two readings of one process.

    The total is exact where every thread of the first reading still lives in the second, else in steps of 10 ms. User
    and system time divide it as the ticks do (the kernel derives those from samples, so they are estimates anyway).
    """
    user = after.user_ticks - before.user_ticks
    system = after.system_ticks - before.system_ticks
    if before.thread_ns and before.thread_ns.keys() <= after.thread_ns.keys():
        total_us = (sum(after.thread_ns.values()) - sum(before.thread_ns.values())) / 1e3
    else:
        total_us = (user + system) / TICKS_PER_S * 1e6
    user_share = user / (user + system) if user + system else 0.0
    return CpuSpent(total_us=total_us, user_us=total_us * user_share, system_us=total_us * (1 - user_share))


def read_rss_bytes(pid: int) -> int:
    """Resident memory of `pid` and its descendants, in bytes.

    From smaps_rollup, which walks the page tables: VmRSS of current kernels is a per-CPU counter that may be some
    hundred kB off, as much as several hundred idle clients need.
    """
    total = 0
    for each in process_tree(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total
