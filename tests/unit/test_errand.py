"""What a program and its proxy's process say to each other survives the way, errors too."""

from __future__ import annotations

import socket
from typing import cast

import pytest
import trio

from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.embedded.child import Questions
from pgpool_core.embedded.errand import Failed, Question, Start, answer, ask, receive, receive_start
from pgpool_core.embedded.proxy import Proxy
from pgpool_core.errors import (
    CommandRefused,
    ConfigError,
    ConfigProblem,
    InternalError,
    PgPoolError,
    PoolClosed,
    ServerLoginRefused,
)
from pgpool_core.policy.secrets import Secret
from pgpool_core.policy.userlist import Userlist


class TwoArguments(Exception):
    """An exception that can be pickled and not be read again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one + two)


def through(data: bytes) -> object:
    """What arrives at the other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.close()
        return receive(theirs)


def start(source: Config | str, **settings: object) -> Start:
    return Start(source=source, listen=None, settings=settings, log_level=30)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError([ConfigProblem("one", key="k", line=3), ConfigProblem("two")]),
        PoolClosed("it has stopped", sqlstate="57P01"),
        CommandRefused("no", detail="why", hint="how"),
        ServerLoginRefused("no such user", sqlstate="28P01", where="db:5432"),
        InternalError("bug", state={"servers": 3}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_whole(error: PgPoolError) -> None:
    arrived = through(answer(Failed(error)))
    assert isinstance(arrived, Failed)
    assert type(arrived.error) is type(error)
    assert str(arrived.error) == str(error)
    assert vars(arrived.error) == vars(error)


def test_an_error_that_cannot_travel_is_told_of() -> None:
    arrived = through(answer(Failed(TwoArguments(1, 2))))
    assert isinstance(arrived, Failed)
    assert str(arrived.error) == "TwoArguments: 3"
    assert isinstance(arrived.error, InternalError)


def test_a_configuration_and_users_arrive() -> None:
    config = Config(
        databases={"app": DatabaseConfig(host="h", password="secret")}, default_pool_size=7, auth_type="trust"
    )
    begun = start(config, workers=2)
    assert through(ask(begun)) == begun
    users = Userlist({b"ann": Secret.plain_password(b"secret")})
    assert through(answer(users)) == users


def test_a_function_without_a_name_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="cannot be given to another process"):
        ask(Question("reload", (lambda: None,)))


def test_a_function_that_is_not_there_is_told_of() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(ask(start("postgresql://h/d")))
        assert isinstance(receive_start(theirs), Start)
        body = b"c__main__\nno_such_function_here\n."
        ours.sendall(len(body).to_bytes(8, "big") + body)
        failed = receive_start(theirs)
        assert isinstance(failed, Failed)
        assert "cannot be given to another process" in str(failed.error)


async def test_an_asker_that_has_gone_does_not_end_the_proxy() -> None:
    ours, askers = trio.socket.socketpair()
    await askers.send(answer("x")[:-1] + b"?")
    askers.close()
    await Questions(cast(Proxy, None)).take(trio.SocketStream(ours))


def test_an_end_is_no_message() -> None:
    with pytest.raises(EOFError):
        through(answer("something")[:-1])
