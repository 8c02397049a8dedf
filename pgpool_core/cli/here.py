"""What this machine has to say about a configuration, without anything being started, made or removed.

What would end the start is looked at as the start does it. Where somebody else starts it, a right that we lack may be there, so that is a
doubt only.
"""

from __future__ import annotations

import errno
import os
import pwd
import resource
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import trio

from pgpool_core.config.model import Config
from pgpool_core.control.endpoint import listen_problem, places_of
from pgpool_core.control.listeners import group_of, resolve, unix_path
from pgpool_core.errors import ConfigError, ConfigProblem
from pgpool_core.process.descriptors import SPARE_DESCRIPTORS, servers_at_most
from pgpool_core.process.pidfile import PIDFILE_LEN, may_be_pidfile

_RIGHTS: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


def refusals(config: Config) -> Iterator[ConfigProblem]:
    """Why the pooler would not start here."""
    if config.user and not _is_user(config.user):
        yield _problem("user", f"there is no user {config.user} here (user)")
    for key, path, error in _in_the_way(config):
        if error.errno not in _RIGHTS:
            yield _problem(key, f"{path} cannot be written here: {error.strerror} ({key})")
    if config.pidfile and _holds_something_else(config.pidfile):
        yield _problem("pidfile", f"the file holds no process number: {config.pidfile} (pidfile)")
    if config.unix_socket_dir:
        yield from _about_the_socket(config)
    yield from trio.run(_names, config)


def doubts_here(config: Config) -> Iterator[tuple[str, ...]]:
    """What may be too little here: a sentence, and the settings that it is about."""
    for key, path, error in _in_the_way(config):
        if error.errno in _RIGHTS:
            yield f"{path} cannot be written here: {error.strerror}", key
    folder = config.unix_socket_dir
    if folder and os.path.isdir(folder) and not os.access(folder, os.W_OK):
        yield f"no socket can be made in {folder} here", "unix_socket_dir"
    wanted = config.max_client_conn + servers_at_most(config) + SPARE_DESCRIPTORS
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < wanted:
        text = (
            f"max_client_conn = {config.max_client_conn} and the pools may need {wanted} file descriptors,"
            f" of which this process may have {hard} (ulimit -Hn, LimitNOFILE=)"
        )
        yield text, "max_client_conn", "default_pool_size"


def _about_the_socket(config: Config) -> Iterator[ConfigProblem]:
    port = config.listen_port or (65535 if config.listen_addr else 0)  # the longest of those that the system may choose
    for look in (lambda: unix_path(config, port), lambda: group_of(config)):
        try:
            look()
        except ConfigError as error:
            yield from error.problems
    folder = config.unix_socket_dir
    if not folder.startswith("@") and not os.path.isdir(folder):
        yield _problem("unix_socket_dir", f"no socket can be made in {folder} here: no such folder (unix_socket_dir)")


async def _names(config: Config) -> list[ConfigProblem]:
    """Names that have no address; of listen_addr one that has is enough."""
    found: list[ConfigProblem] = []
    for name in config.listen_addr:
        try:
            await resolve(name)
        except OSError as error:
            found.append(_problem("listen_addr", f"cannot resolve {name}: {error.strerror or error} (listen_addr)"))
    if len(found) < len(config.listen_addr):
        found = []
    try:
        if config.metrics_listen:
            await places_of(config.metrics_listen)
    except OSError as error:
        found += listen_problem(config.metrics_listen, error).problems
    return found


def _in_the_way(config: Config) -> Iterator[tuple[str, str, OSError]]:
    """What is in the way of writing the files that a configuration names."""
    for key, path, write in (("logfile", config.logfile, _open_log), ("pidfile", config.pidfile, _look_at_pidfile)):
        try:
            if path:
                write(path)
        except OSError as error:
            yield key, path, error


def _open_log(path: str) -> None:
    """As the start does it, but a file that is not there yet is not made."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
    except FileNotFoundError:
        _look_at_folder(path)
    except OSError as error:
        if error.errno != errno.ENXIO:  # a pipe that nobody reads yet
            raise


def _look_at_pidfile(path: str) -> None:
    _look_at_folder(path)
    with suppress(FileNotFoundError), open(path, "rb"):
        pass


def _look_at_folder(path: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _holds_something_else(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return not may_be_pidfile(file.read(PIDFILE_LEN))
    except OSError:
        return False


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _problem(key: str, text: str) -> ConfigProblem:
    return ConfigProblem(text, section="pgbouncer", key=key)
