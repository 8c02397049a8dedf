"""Where a sample of perf belongs."""

from __future__ import annotations

import pytest

from benchmarks.macro.errors import BenchError
from benchmarks.macro.profile import AREAS, KERNEL, LIBRARIES, OWN, OWN_FILES, REST, Frame, area_of, profile_of, stacks
from benchmarks.macro.targets import OURS, PGBOUNCER

SCRIPT = """\
\tffffffff813a2413 finish_task_switch.isra.0 ([kernel.kallsyms])
\tffffffff821f94c3 schedule ([kernel.kallsyms])
\tffffffff816b57dd __x64_sys_epoll_wait ([kernel.kallsyms])
\t           fd001 epoll_wait (/usr/lib/x86_64-linux-gnu/libc.so.6)

\t           32f72 __pyx_f_11pgpool_core_6engine_6client_forward (/srv/pgpool_core/engine/client.cpython-311-x86_64-linux-gnu.so)

\t               0 [unknown] ([unknown])
"""


def stack(*functions: str) -> list[Frame]:
    return [Frame(function=name, file=KERNEL) for name in functions]


def test_stacks_are_read_as_perf_prints_them() -> None:
    found = list(stacks(SCRIPT.splitlines()))
    assert [len(each) for each in found] == [4, 1, 1]
    assert found[0][0] == Frame(function="finish_task_switch.isra.0", file=KERNEL)
    assert [area_of(each, OWN_FILES[OURS]) for each in found] == ["sleeping, task switches", OWN, LIBRARIES]


@pytest.mark.parametrize(
    ("functions", "area"),
    [
        (["_raw_spin_unlock_irqrestore", "try_to_wake_up", "sock_def_readable", "tcp_sendmsg"], "waking whoever waits"),
        (["tcp_v4_rcv", "net_rx_action", "handle_softirqs", "tcp_sendmsg"], "bringing it to the other end"),
        (["_copy_from_iter", "tcp_sendmsg_locked", "tcp_sendmsg", "__sys_sendto"], "sending"),
        (["io_send", "io_issue_sqe", "__x64_sys_io_uring_enter"], "sending"),
        (["_copy_to_iter", "tcp_recvmsg", "__sys_recvfrom"], "receiving"),
        (["io_recv", "io_poll_check_events", "task_work_run"], "receiving"),
        (["ep_send_events", "do_epoll_wait"], "asking what is ready"),
        (["__x64_sys_epoll_ctl", "do_syscall_64"], "asking what is ready"),
        (["inet_csk_accept", "__sys_accept4", "do_syscall_64"], "connections come and go"),
        (["tcp_close", "__fput", "task_work_run"], "connections come and go"),
        (["do_syscall_64", "entry_SYSCALL_64_after_hwframe"], "system calls as such"),
        (["asm_exc_page_fault"], REST),
    ],
)
def test_a_sample_in_the_kernel_belongs_to_what_it_was_called_for(functions: list[str], area: str) -> None:
    assert area_of(stack(*functions), OWN_FILES[OURS]) == area
    assert area in AREAS or area == REST


def test_what_a_transaction_costs_is_shared_out_whole() -> None:
    own = [Frame(function="client_proto", file="/usr/sbin/pgbouncer")]
    found = [own, own, stack("do_epoll_wait"), stack("tcp_sendmsg")]
    profile = profile_of(found, 20.0, OWN_FILES[PGBOUNCER])
    assert profile.areas == {OWN: 10.0, "asking what is ready": 5.0, "sending": 5.0}
    assert sum(profile.areas.values()) == profile.cost
    assert profile.functions == [("client_proto", 10.0)]


def test_no_samples_are_no_profile() -> None:
    with pytest.raises(BenchError, match="no samples"):
        profile_of([], 20.0, OWN_FILES[OURS])
