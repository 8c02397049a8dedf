"""What benchmarks.micro.transaction reads of callgrind's files."""

from __future__ import annotations

from benchmarks.micro.callgrind import Profile, plain_name

FORWARD = "__pyx_f_11pgpool_core_6engine_6client_forward"
PROFILE = f"""\
version: 1
events: Ir
ob=(1) /somewhere/client.so
fl=(1) client.c
fn=(1) {FORWARD}
0 30
cob=(2) /somewhere/libc.so
cfn=(2) malloc
calls=3 0
0 90
+0 12
fn=(2)
0 90
totals: 132
"""


def test_a_function_is_charged_for_what_it_has_run_itself_and_not_for_what_it_calls() -> None:
    profile = Profile.of(PROFILE.splitlines(keepends=True))
    assert dict(profile.instructions) == {"engine.client.forward": 42, "malloc": 90}
    assert dict(profile.called("malloc")) == {"engine.client.forward": 3}


def test_of_two_runs_only_what_the_longer_one_has_beyond_the_shorter_one_is_left() -> None:
    shorter = Profile.of(PROFILE.splitlines())
    longer = Profile.of(PROFILE.replace("0 30", "0 50").replace("calls=3", "calls=7").splitlines())
    more = longer.less(shorter)
    assert more.instructions["engine.client.forward"] == 20
    assert more.instructions["malloc"] == 0
    assert more.called("malloc", "calloc").total() == 4


def test_names_are_shown_as_they_stand_in_the_source() -> None:
    assert plain_name("__pyx_f_11pgpool_core_4wire_4scan_scan_to") == "wire.scan.scan_to"
    assert plain_name("__pyx_f_11pgpool_core_6engine_6client_idle.constprop.0") == "engine.client.idle.constprop.0"
    assert plain_name("pthread_mutex_lock@@GLIBC_2.2.5") == "pthread_mutex_lock"
    assert plain_name("body_flags'2") == "body_flags"
