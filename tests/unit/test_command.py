"""The command of `pgpool-core run`, where a real one cannot be had: one that belongs to somebody else."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pgpool_core.embedded.command import run_command


async def test_a_command_that_may_not_be_sent_signals_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def refuse(process: subprocess.Popen[bytes], number: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(subprocess.Popen, "send_signal", refuse)
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    async def signals() -> AsyncIterator[int]:
        yield signal.SIGTERM
        gate.write_text("go on\n")

    command = ["sh", "-c", f"read line < {gate}; exit 7"]
    assert await run_command(command, os.environ, signals()) == 7
    assert "it cannot be sent SIGTERM" in caplog.text
