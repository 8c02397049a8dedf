"""The process of `run_proxy_process`, from its first message to its end. It lives no longer than the program that started it.

It notices that end by a socket, whose other half is closed then, and, where something else has inherited that half, by a pidfd.
Source: unix(7).
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import trio

from pgpool_core import logs
from pgpool_core.control.footprint import forget_start
from pgpool_core.control.groups import sole_errors
from pgpool_core.embedded.errand import Failed, Question, Start, Started, answer, receive_async, receive_start
from pgpool_core.embedded.pidfd import open_pidfd
from pgpool_core.embedded.proxy import Proxy, open_proxy
from pgpool_core.errors import ConfigError, InternalError

QUESTIONS: Final = "questions"
"""The socket in the folder."""
LONGEST_FOLDER: Final = 80  # bytes, of the one that ours is made in: a socket's whole path has 107


def main(descriptor: int, program: int) -> None:
    """Run a proxy until process `program`, which has started us, has ended or asks for its end.

    Args:
        descriptor: our half of the socket: `Start` comes in, `Started` or `Failed` goes out, then the other half only ends.
    """
    with socket.socket(fileno=descriptor) as lifeline:
        try:
            start = receive_start(lifeline)
        except EOFError:
            return
        if isinstance(start, Failed):
            lifeline.sendall(answer(start))
            return
        handler = logging.StreamHandler()
        handler.setFormatter(logs.LineFormatter())
        logs.LOGGER.addHandler(handler)
        logs.LOGGER.setLevel(start.log_level)
        try:
            trio.run(_live, start, lifeline, program)
        except Exception as error:
            with suppress(OSError):  # the program has gone
                lifeline.sendall(answer(Failed(error)))
            raise SystemExit(1) from None


async def _live(start: Start, lifeline: socket.socket, program: int) -> None:
    async with open_proxy(start.source, listen=start.listen, **start.settings) as proxy:
        with _folder() as folder:
            listener = await _listen(folder / QUESTIONS)
            async with sole_errors(), trio.open_nursery() as nursery:
                nursery.start_soon(_end_with, proxy, lifeline, program)
                nursery.start_soon(trio.serve_listeners, Questions(proxy).take, [listener])
                lifeline.sendall(answer(Started(address=proxy.address, folder=str(folder))))
                forget_start()
                await proxy.wait_closed()
                nursery.cancel_scope.cancel("the proxy has stopped")


@contextmanager
def _folder() -> Iterator[Path]:
    usual = tempfile.gettempdir()
    fits = len(os.fsencode(usual)) < LONGEST_FOLDER
    folder = tempfile.mkdtemp(prefix="pgpool-core-", dir=usual if fits else "/tmp")  # mode 0700
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _listen(path: Path) -> trio.SocketListener:
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await sock.bind(str(path))
    sock.listen(64)
    return trio.SocketListener(sock)


async def _end_with(proxy: Proxy, lifeline: socket.socket, program: int) -> None:
    """Stop the proxy when the program has ended."""

    async def readable(descriptor: int, scope: trio.CancelScope) -> None:
        await trio.lowlevel.wait_readable(descriptor)
        scope.cancel("the program has ended")

    with open_pidfd(program) as pidfd:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(readable, lifeline.fileno(), nursery.cancel_scope)
            if pidfd is not None:
                nursery.start_soon(readable, pidfd, nursery.cancel_scope)
            if os.getppid() != program:
                nursery.cancel_scope.cancel("the program has ended")
    proxy.begin_shutdown("its program has ended")


class Questions:
    """Answers programs: whoever has been given the folder by a fork."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    async def take(self, stream: trio.SocketStream) -> None:
        """One connection: a question, an answer. Whatever goes wrong here is the asker's affair; the proxy goes on."""
        async with stream:
            try:
                await self._take(stream)
            except trio.BrokenResourceError:
                pass  # the asker has gone
            except Exception:
                logs.LOGGER.exception("%s", logs.line("", "a program's question could not be answered"))

    async def _take(self, stream: trio.SocketStream) -> None:
        """If the asker goes away meanwhile, the answer is not worked on any more."""
        try:
            question: Question = await receive_async(stream)
        except (EOFError, trio.BrokenResourceError):
            return  # somebody looked whether we are here
        except Exception as problem:  # a configuration with something in it that is not here
            await stream.send_all(answer(Failed(ConfigError(f"this cannot be given to another process: {problem}"))))
            return
        reply: bytes | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gone, stream, nursery.cancel_scope)
            reply = await self._answer(question)
            nursery.cancel_scope.cancel("answered")
        if reply is not None:
            await stream.send_all(reply)

    async def _gone(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.receive_some(1)
        scope.cancel("nobody waits for the answer")

    async def _answer(self, question: Question) -> bytes:
        proxy = self._proxy
        try:
            match question:
                case Question("statistics", ()):
                    return answer(proxy.statistics())
                case Question("features", ()):
                    return answer(proxy.features())
                case Question("snapshot", ()):
                    return answer(await proxy.snapshot())
                case Question("reload" | "pause" | "resume" as name, (word,)):
                    await getattr(proxy, name)(word)
                    return answer(None)
        except Exception as error:
            return answer(Failed(error))
        return answer(Failed(InternalError(f"nobody asks {question.name}")))
