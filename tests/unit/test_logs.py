"""Log lines: their form, that nobody can forge one, and the files they go to."""

from __future__ import annotations

import errno
import logging
import os
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core import logs
from pgpool_core.config.model import Config
from pgpool_core.errors import ConfigError
from pgpool_core.metrics.counters import Averages
from pgpool_core.process import syslog
from pgpool_core.process.log_output import LogOutput, ReopeningFileHandler
from pgpool_core.process.service import use_log_settings
from pgpool_core.process.syslog import Syslog


@pytest.fixture(autouse=True)
def logger() -> Iterator[None]:
    before = logs.LOGGER.level, logs.LOGGER.propagate, logs.LOGGER.handlers[:]
    yield
    logs.LOGGER.level, logs.LOGGER.propagate, logs.LOGGER.handlers[:] = before


def test_a_line_says_who_and_what_then_fields_in_their_order() -> None:
    fields = {"method": "scram-sha-256", "took_ms": 14, "tls": False, "share": 0.5}
    line = logs.line("C-1f3.7 appdb/alice@10.0.0.8:51932", "login ok", fields)
    assert line == "C-1f3.7 appdb/alice@10.0.0.8:51932 login ok method=scram-sha-256 took_ms=14 tls=no share=0.5"


def test_a_value_with_blanks_or_quotes_is_quoted() -> None:
    assert logs.line("", "x", {"a": 'b "c" \\', "e": ""}) == 'x a="b \\"c\\" \\\\" e=""'


@given(st.text(), st.text(), st.binary())
def test_nothing_a_peer_sends_begins_a_new_line(who: str, what: str, value: bytes) -> None:
    line = logs.line(who, what, {"key": value})
    assert len(line.splitlines()) <= 1
    line.encode()  # no lone surrogates: a log file takes it


def test_bytes_that_are_not_utf8_stay_visible() -> None:
    assert logs.line("", "x", {"name": b"a\xff\n"}) == 'x name="a\\xff\\x0a"'


@pytest.mark.parametrize(
    ("host", "place"), [("10.0.0.1", "10.0.0.1:5432"), ("::1", "[::1]:5432"), ("/tmp", "unix:5432")]
)
def test_a_server_is_named_by_pool_and_place(host: str, place: str) -> None:
    assert logs.server_tag(0x1F3, "app", "alice", host, 5432) == f"S-0x1f3: app/alice@{place}"


def test_the_statistics_line_has_pgbouncers_wording() -> None:
    averages = Averages(xacts=1, queries=2, client_parses=3, server_parses=4, binds=5, client_logins=6)
    assert logs.stats_line(averages) == (
        "stats: 1 xacts/s, 2 queries/s, 3 client parses/s, 4 server parses/s, 5 binds/s, 6 client logins/s, "
        "in 0 B/s, out 0 B/s, xact 0 us, query 0 us, wait 0 us"
    )


def record(level: int, text: str) -> logging.LogRecord:
    made = logging.LogRecord("pgpool_core", level, "f", 1, text, (), None)
    made.created, made.msecs, made.process = 1795229014.627, 627.0, 4711
    return made


@pytest.mark.parametrize(
    ("level", "word"), [(logging.INFO, "LOG"), (logging.WARNING, "WARNING"), (logging.CRITICAL, "FATAL")]
)
def test_a_stamp_is_utc_with_milliseconds_and_process(level: int, word: str) -> None:
    assert logs.LineFormatter().format(record(level, "hello")) == f"2026-11-21 02:43:34.627 UTC [4711] {word} hello"


def test_a_moved_log_file_is_opened_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    output = LogOutput(quiet=True)
    output.apply(str(path))
    logs.LOGGER.info("one")
    path.rename(tmp_path / "log.1")
    output.apply(str(path))
    logs.LOGGER.info("two")
    output.close()
    assert re.search(r" LOG one\n$", (tmp_path / "log.1").read_text())
    assert re.search(r" LOG two\n$", path.read_text())
    assert capsys.readouterr().err == ""


def test_a_log_file_that_cannot_be_opened_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    path = tmp_path / "log"
    output = LogOutput(quiet=True)
    output.apply(str(path))
    with pytest.raises(OSError):
        output.apply(str(tmp_path / "no" / "folder"))
    logs.LOGGER.info("still here")
    output.close()
    assert "still here" in path.read_text()


def test_what_is_logged_changes_though_the_file_cannot_be_opened_again(tmp_path: Path) -> None:
    """Its folder is gone, say: RELOAD goes on with what is open, and with the other settings."""
    folder = tmp_path / "folder"
    folder.mkdir()
    output = LogOutput(quiet=True)
    output.apply(str(folder / "log"))
    folder.rename(tmp_path / "moved")
    with pytest.raises(OSError):
        output.apply(str(folder / "log"), verbose=1)
    logs.LOGGER.debug("in detail")
    with pytest.raises(OSError):
        output.apply(str(tmp_path / "no" / "folder"))
    logs.LOGGER.debug("still in detail")
    output.close()
    assert len((tmp_path / "moved" / "log").read_text().splitlines()) == 2


def test_a_fresh_file_does_not_end_the_line_that_the_old_one_had_in_part(tmp_path: Path) -> None:
    handler = ReopeningFileHandler(tmp_path / "log")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        handler.emit(record(logging.INFO, "more than there is room for"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (tmp_path / "log").rename(tmp_path / "log.1")
    handler.reopen()
    handler.emit(record(logging.INFO, "whole"))
    handler.close()
    assert (tmp_path / "log").read_text()[0] != "\n"


def test_a_full_disk_costs_lines_and_standard_error_hears_of_it_once_a_minute(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    output = LogOutput(quiet=True)
    output.apply(str(path))
    for _ in range(3):
        logs.LOGGER.info("one")
    [told] = capsys.readouterr().err.splitlines()
    assert told.endswith(f"ERROR the log file takes no lines: No space left on device: {path} (logfile) lost=1")
    path.unlink()
    output.apply(str(path))
    logs.LOGGER.info("two")
    output.close()
    again, two = path.read_text().splitlines()
    assert again.endswith(f"ERROR the log file takes lines again: {path} (logfile) lost=3")
    assert two.endswith("LOG two")
    assert capsys.readouterr().err == ""


def test_a_line_of_which_a_part_was_written_does_not_begin_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    output = LogOutput(quiet=True)
    output.apply(str(path))
    write, room = os.write, [10]

    def some(fd: int, data: memoryview) -> int:
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[: room.pop()])

    with monkeypatch.context() as full:
        full.setattr(os, "write", some)
        logs.LOGGER.info("one")
    logs.LOGGER.info("two")
    output.close()
    part, _, two = path.read_text().splitlines()
    assert (len(part), two[-7:]) == (10, "LOG two")


def test_another_log_file_that_cannot_be_opened_is_refused_and_one_that_is_in_use_stays_so(tmp_path: Path) -> None:
    path, there = tmp_path / "log", Config(logfile=str(tmp_path / "log"))
    output = LogOutput(quiet=True)
    use_log_settings(output, there)
    with pytest.raises(ConfigError, match=r"cannot open the log file .* \(logfile\)"):
        use_log_settings(output, Config(logfile=str(tmp_path / "no" / "folder")))
    path.rename(tmp_path / "log.1")
    path.mkdir()
    use_log_settings(output, there)
    output.close()
    assert "cannot open the log file" in (tmp_path / "log.1").read_text()


def test_debug_lines_need_verbose(tmp_path: Path) -> None:
    path = tmp_path / "log"
    output = LogOutput(quiet=True)
    output.apply(str(path))
    logs.LOGGER.debug("hidden")
    output.apply(str(path), verbose=1)
    logs.LOGGER.debug("shown")
    output.close()
    assert "hidden" not in path.read_text()
    assert "shown" in path.read_text()


@pytest.fixture
def system_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Who listens where the system's log would."""
    path = tmp_path / "log"
    monkeypatch.setattr(syslog, "SOCKET", str(path))
    with listening(path) as there:
        yield there


def listening(path: Path) -> socket.socket:
    there = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    there.settimeout(10)
    there.bind(str(path))
    return there


def settings(**more: Any) -> Config:
    return Config(syslog=True, **more)


def test_the_systems_log_is_told_under_the_name_and_facility_that_are_asked_for(system_log: socket.socket) -> None:
    output = LogOutput(quiet=True)
    use_log_settings(output, settings())
    logs.LOGGER.info("one")
    output.apply("", syslog=Syslog("pool two", "local3"))
    logs.LOGGER.critical("two")
    use_log_settings(output, settings(syslog_ident="pool", syslog_facility="auth", verbose=1))
    logs.LOGGER.debug("three")
    use_log_settings(output, Config())
    logs.LOGGER.info("nobody hears")
    use_log_settings(output, settings())
    logs.LOGGER.warning("four")
    output.close()
    told = [system_log.recv(1000).decode() for _ in range(4)]
    form = re.compile(rf"<(\d+)>[A-Z][a-z]{{2}} [ 123]\d \d\d:\d\d:\d\d (.+)\[{os.getpid()}\]: (.*)")
    assert [match.groups() for line in told if (match := form.fullmatch(line))] == [
        ("30", "pgbouncer", "one"),
        ("154", "pool two", "two"),
        ("39", "pool", "three"),
        ("28", "pgbouncer", "four"),
    ]


def test_nobody_waits_for_a_systems_log_that_is_away_or_full(system_log: socket.socket, tmp_path: Path) -> None:
    output = LogOutput(quiet=True)
    use_log_settings(output, settings())
    for number in range(5000):  # more than its queue takes
        logs.LOGGER.info("%d %s", number, "x" * 20_000)
    assert len(system_log.recv(100_000)) == syslog.MAX_BYTES
    system_log.close()
    logs.LOGGER.info("lost")
    (tmp_path / "log").unlink()
    logs.LOGGER.info("lost too")
    with listening(tmp_path / "log") as again:
        logs.LOGGER.info("heard")
        assert again.recv(1000).endswith(b": heard")
    output.close()


def test_the_library_installs_no_handlers_by_itself() -> None:
    assert not [handler for handler in logs.LOGGER.handlers if type(handler).__module__.startswith("pgpool_core")]
