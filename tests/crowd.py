"""Many clients at once on few servers, and servers that change hands when a test says so."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import psycopg
import pytest

__all__ = ["Turns", "crowd", "room_for", "turns"]

T = TypeVar("T")


def crowd(size: int, use: Callable[[int], T]) -> list[T]:
    """What `use(0)` ... `use(size - 1)` return, begun together in a thread each; every failure is raised."""
    together = threading.Barrier(size)

    def one(number: int) -> T:
        together.wait(30)
        return use(number)

    with ThreadPoolExecutor(size) as threads:
        futures = [threads.submit(one, number) for number in range(size)]
    failures = [failure for future in futures if (failure := future.exception())]
    if failures:
        raise BaseExceptionGroup("in a crowd", failures)
    return [future.result() for future in futures]


@contextmanager
def room_for(clients: int) -> Iterator[None]:
    """Descriptors for every client's socket in this process, and in poolers, which inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < clients + 500:
        pytest.skip(f"RLIMIT_NOFILE is {hard}; {clients} clients need {clients + 500}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, clients + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Turns:
    """Two clients that hold a server each in turn: after every call, others find the server that they did not have.

    For a pool of two servers, and only while nobody keeps one. Without a pooler it changes nothing.
    """

    def __init__(self, one: psycopg.Connection, other: psycopg.Connection) -> None:
        self._holds, self._waits = one, other
        self._holds.execute("begin")

    def __call__(self) -> None:
        self._waits.execute("begin")
        self._holds.execute("rollback")
        self._holds, self._waits = self._waits, self._holds


@contextmanager
def turns(url: str) -> Iterator[Turns]:
    with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as other:
        yield Turns(one, other)
