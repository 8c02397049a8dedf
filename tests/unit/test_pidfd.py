"""The end of a process as something to wait for, where the interpreter has it and where it has not."""

from __future__ import annotations

import os
import select
import subprocess

import pytest

from pgpool_core.embedded.pidfd import open_pidfd


def test_it_is_readable_when_the_process_has_ended() -> None:
    with subprocess.Popen(["true"]) as process, open_pidfd(process.pid) as descriptor:
        assert descriptor is not None
        assert select.select([descriptor], [], [], 30)[0] == [descriptor]


def test_an_interpreter_built_for_older_kernels_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As conda's: it may run on a kernel that has it all the same."""
    monkeypatch.delattr(os, "pidfd_open")
    with open_pidfd(os.getpid()) as descriptor:
        assert descriptor is None
