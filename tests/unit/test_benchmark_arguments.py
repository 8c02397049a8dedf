"""Wrong arguments of the benchmark end it before anything is measured; a part of it does not replace the reports of the whole."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from benchmarks.macro import __main__ as macro
from benchmarks.macro import crowd, full, scaling
from benchmarks.macro.__main__ import parse_arguments
from benchmarks.macro.cases import BESIDE, CASES
from benchmarks.macro.ending import status_of
from benchmarks.macro.errors import BenchError
from benchmarks.macro.targets import BACKEND


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--case", "nonsense"], "no such case: nonsense"),
        (["--targets", "direct,odyssey"], "no such target: odyssey"),
        (["--rounds", "0"], "at least 1"),
        (["--workers", "65"], "--workers must be at most 64"),
        (["--workers", "2", "--case", "idle-memory"], "none of these cases can be spread"),
        (["--out", "/no/such/folder/report.md"], "/no/such/folder/report.md cannot be written"),
        (["--out", "/"], "/ cannot be written"),
    ],
)
def test_what_cannot_be_measured_or_written_is_told_at_once(
    given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(given)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_report_may_go_to_a_new_file_and_to_one_that_is_there(tmp_path: Path) -> None:
    fresh, old = tmp_path / "fresh.md", tmp_path / "old.md"
    old.write_text("before")
    for out in (fresh, old):
        assert parse_arguments(["--out", str(out)]).out == out
    assert old.read_text() == "before"
    assert not fresh.exists()


@pytest.mark.parametrize(
    "part",
    [
        ["--case", "select1-simple-32"],
        ["--case=select1-simple-32"],
        ["--targets", "pgpool_core"],
        ["--quick"],
        ["--rounds", "5"],
        ["--workers", "4"],
        ["--io-backend", "epoll"],
        ["--list"],
    ],
)
def test_a_part_of_the_benchmark_leaves_the_reports_alone(part: list[str], tmp_path: Path) -> None:
    assert full.plan(part, tmp_path) == [full.Call(macro.main, part)]


@pytest.mark.parametrize("whole", [[], ["--rounds", "9"], ["--seconds", "1"]])
def test_the_whole_benchmark_writes_all_reports(whole: list[str], tmp_path: Path) -> None:
    calls = full.plan(whole, tmp_path)
    assert [call.main for call in calls] == [macro.main, macro.main, crowd.main, scaling.main]
    written = [Path(call.arguments[-1]) for call in calls]
    assert [path.name for path in written] == [
        *("RESULTS.md", "RESULTS-2-workers.md", "RESULTS-idle.md", "RESULTS-scaling.md")
    ]
    assert all(path.parent == tmp_path for path in written)
    parsed = parse_arguments(calls[1].arguments)
    assert (parsed.workers, parsed.rounds) == (2, parse_arguments(whole).rounds)


def test_the_first_call_that_fails_ends_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def call(status: int) -> full.Call:
        def program(arguments: object) -> int:
            made.append(status)
            return status

        return full.Call(program, [])

    monkeypatch.setattr(full, "plan", lambda _arguments: [call(0), call(130), call(0)])
    assert full.main([]) == 130
    assert made == [0, 130]


@pytest.mark.parametrize("there", [None, Path("/usr/sbin/haproxy")])
def test_haproxy_is_measured_where_it_is_installed(there: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(macro, "find_haproxy", lambda: there)
    assert parse_arguments([]).targets == ["direct", "pgbouncer", "pgpool_core", *(["haproxy"] if there else [])]
    assert parse_arguments(["--quick"]).targets == ["pgbouncer", "pgpool_core"]
    assert parse_arguments(["--targets", "haproxy"]).targets == ["haproxy"]


def test_every_further_target_of_a_case_has_one_beside_which_it_is_measured() -> None:
    """And every goal is about a target that there is in its case."""
    for case in CASES:
        assert set(case.beside) <= BESIDE.keys(), case.name
        assert {goal.to for goal in case.goals if goal.to} <= set(case.beside), case.name


@pytest.mark.parametrize(
    ("log", "backend"),
    [
        ("LOG process up: pgpool_core 0.1.0 workers=1 io_backend=io_uring\n", "io_uring"),
        ("io_backend=io_uring\nWARNING the system refuses io_uring by now: epoll goes on (io_backend)\n", "epoll"),
        ("", None),
    ],
)
def test_the_back_end_is_what_the_log_said_last(log: str, backend: str | None) -> None:
    said = BACKEND.findall(log)
    assert (said[-1] if said else None) == backend


def test_an_option_is_not_guessed_from_its_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--cas", "select1-simple-32"])
    assert "--cas" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("why", "status"),
    [
        (BenchError("pgbouncer does not answer"), 1),
        (FileNotFoundError("PGBOUNCER=/x is not a program"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_stops_a_benchmark_is_its_exit_status(
    why: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise why

    assert status_of(work) == status
    said = capsys.readouterr().err
    assert str(why) in said
    assert said.count("\n") == 1


def test_sigterm_stops_what_was_started_as_ctrl_c_does() -> None:
    before, stopped = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            stopped.append(True)

    assert status_of(work) == 143
    assert stopped
    assert signal.getsignal(signal.SIGTERM) is before
