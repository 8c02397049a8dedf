"""Asks for the password of one server connection: reads a file, runs a command, calls a function.

What goes wrong is told to the clients that wait for the server, in words that hold nothing of what was read or printed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import Final

import trio

from pgpool_core.config.expand import FILE, read_secret
from pgpool_core.config.passwords import PasswordCommand, PasswordFile, PasswordFunction, PasswordSource, PasswordWanted
from pgpool_core.errors import PasswordUnavailable
from pgpool_core.policy.secrets import MAX_SECRET_LEN, Secret

READ_LEN: Final = 16 * 1024


async def ask_password(source: PasswordSource, wanted: PasswordWanted) -> Secret:
    """The secret of now.

    Raises:
        PasswordUnavailable: it cannot be had, or is none.
    """
    setting = "password_command" if isinstance(source, PasswordCommand) else "password"
    try:
        if isinstance(source, PasswordFile):
            text = await trio.to_thread.run_sync(read_secret, FILE + source.path, abandon_on_cancel=True)
            raw = text.encode()
        elif isinstance(source, PasswordCommand):
            raw = await _printed_by(source, wanted)
        else:
            raw = await _given_by(source, wanted)
        if not raw:
            raise ValueError("it is empty")
        return Secret.parse(raw)
    except ValueError as error:
        text = f'no password for server user "{wanted.user}": {error} ({setting})'
        raise PasswordUnavailable(text) from None


async def _given_by(function: PasswordFunction, wanted: PasswordWanted) -> bytes:
    try:
        return (await function(wanted)).encode()
    except Exception as error:  # its text may hold anything
        raise ValueError(f"the function for it has raised {type(error).__name__}") from None


async def _printed_by(command: PasswordCommand, wanted: PasswordWanted) -> bytes:
    """What the command writes to its standard output, without the end of the last line. Its standard error is ours."""
    place = {"PGUSER": wanted.user, "PGDATABASE": wanted.database, "PGHOST": wanted.host, "PGPORT": str(wanted.port)}
    try:
        process = await trio.lowlevel.open_process(
            command.words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env={**os.environ, **place}
        )
    except OSError as error:
        raise ValueError(f"the command cannot be run: {error.strerror}") from None
    assert process.stdout is not None
    printed = b""
    try:
        while more := await process.stdout.receive_some(READ_LEN):
            printed += more
            if len(printed) > MAX_SECRET_LEN + 2:
                raise ValueError(f"the command has printed more than {MAX_SECRET_LEN} bytes")
        status = await process.wait()
    finally:
        with trio.CancelScope(shield=True):  # a killed process ends at once
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            await process.stdout.aclose()
    if status != 0:
        how = f"was ended by signal {-status}" if status < 0 else f"has exited with status {status}"
        raise ValueError(f"the command {how}")
    return printed.removesuffix(b"\n").removesuffix(b"\r")
