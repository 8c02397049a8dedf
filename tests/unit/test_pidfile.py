"""The pid file: whose it is, and when it goes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pgpool_core.errors import ConfigError
from pgpool_core.process.pidfile import Pidfile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pid"


def gone() -> int:
    """The number of a process that is no more."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_it_holds_our_number_until_it_is_removed(path: Path) -> None:
    pidfile = Pidfile(str(path))
    pidfile.check()
    pidfile.write()
    assert path.read_text() == f"{os.getpid()}\n"
    assert os.listdir(path.parent) == ["pid"]
    pidfile.remove()
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "\n", "{gone}\n", " {gone}", "{ours}\n"])
def test_a_stale_one_is_removed(path: Path, content: str) -> None:
    path.write_text(content.format(gone=gone(), ours=os.getpid()))
    Pidfile(str(path)).check()
    assert not path.exists()


@pytest.mark.parametrize("content", ["1\n", "1", "{parent}\n"])
def test_that_of_a_process_that_lives_ends_the_start(path: Path, content: str) -> None:
    written = content.format(parent=os.getppid())
    path.write_text(written)
    with pytest.raises(ConfigError, match="pidfile exists, another instance running\\?"):
        Pidfile(str(path)).check()
    assert path.read_text() == written


@pytest.mark.parametrize("content", ["[pgbouncer]\n", "-1\n", "0\n", "12 13\n", "1" * 40, "9" * 10 + "\n"])
def test_what_is_no_pid_file_is_left_alone(path: Path, content: str) -> None:
    path.write_text(content)
    try:
        Pidfile(str(path)).check()
    except ConfigError as error:
        assert "(pidfile)" in str(error)
        assert path.read_text() == content
    else:
        assert content == "9" * 10 + "\n"  # a number that nobody can have


def test_two_that_start_at_once_do_not_both_get_it(path: Path) -> None:
    Pidfile(str(path)).check()
    path.write_text("1\n")
    with pytest.raises(ConfigError, match="another instance"):
        Pidfile(str(path)).write()
    assert path.read_text() == "1\n"
    assert os.listdir(path.parent) == ["pid"]


def test_a_successor_replaces_it_and_the_old_one_leaves_it(path: Path) -> None:
    path.write_text("1\n")
    new = Pidfile(str(path))
    new.prepare()
    assert path.read_text() == "1\n"
    new.replace()
    assert path.read_text() == f"{os.getpid()}\n"
    assert os.listdir(path.parent) == ["pid"]
    path.write_text("1\n")
    Pidfile(str(path)).remove()
    assert path.read_text() == "1\n"
    path.write_text(f"{os.getpid()}\n")
    old = Pidfile(str(path))
    old.leave()
    old.remove()
    assert path.exists()


def test_what_was_prepared_and_not_needed_goes(path: Path) -> None:
    path.write_text("1\n")
    new = Pidfile(str(path))
    new.prepare()
    new.remove()
    assert os.listdir(path.parent) == ["pid"]
    assert path.read_text() == "1\n"


def test_without_a_path_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    none = Pidfile("")
    none.check()
    none.write()
    none.prepare()
    none.replace()
    none.remove()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write: No such file or directory: .*\(pidfile\)"):
        Pidfile(str(path / "deeper")).write()
