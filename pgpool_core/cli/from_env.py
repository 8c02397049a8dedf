"""The files that an environment asks for: written where they are missing, so that `serve --from-env` can run with them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pgpool_core.config.env import KINDS, generate
from pgpool_core.config.env.docker import names_server
from pgpool_core.config.env.generated import folder_of, user_line
from pgpool_core.errors import ConfigError, ConfigProblem
from pgpool_core.policy.userlist import load_userlist

INI: Final = "pgbouncer.ini"
GUESS: Final = "auto"

_SIGNS: Final = {"heroku": ("DYNO", "PGBOUNCER_URLS"), "bitnami": ("POSTGRESQL_HOST", "PGBOUNCER_DSN_0")}
"""Variables by which an environment is known; without any it is the Docker image's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --from-env and --config-dir to a sub-command."""
    parser.add_argument(
        "--from-env",
        nargs="?",
        choices=(*KINDS, GUESS),
        const=GUESS,
        metavar="KIND",
        help=f"read environment variables, as {', '.join(KINDS)} name them (told apart by which are set)",
    )
    parser.add_argument("--config-dir", metavar="DIR", help="where the files are, instead of where KIND has them")


def kind_of(asked: str, environ: Mapping[str, str]) -> str:
    """The kind of environment that was asked for, guessed where it was left open."""
    if asked != GUESS:
        return asked
    return next((kind for kind, names in _SIGNS.items() if any(name in environ for name in names)), "docker")


def named_file(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """The file that was named, or the one that the environment asks for; ends the program where there is neither."""
    if (arguments.file is None) == (arguments.from_env is None):
        parser.error("name a FILE, or say --from-env")
    if arguments.file is not None:
        return str(arguments.file)
    try:
        return prepare_files(kind_of(arguments.from_env, os.environ), os.environ, arguments.config_dir)
    except ConfigError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


def prepare_files(kind: str, environ: Mapping[str, str], folder: str | None = None) -> str:
    """Write pgbouncer.ini and the userlist where they are missing; the path of the ini.

    An ini that is there is used as it is, and the variables need not name a server then. A userlist that is there keeps its lines; users
    who are not in it are added.

    Raises:
        ConfigError: a variable cannot be used, or a file cannot be written.
    """
    ini = Path(folder or folder_of(kind, environ)) / INI
    if ini.exists() and not (kind == "docker" and names_server(environ)):
        return str(ini)
    made = generate(kind, environ, folder)
    for warning in made.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    _write_users(Path(made.settings["auth_file"]), made.users)
    if not ini.exists():
        _write(ini, made.ini(show_secrets=True), "x")
    return str(ini)


def _write_users(path: Path, users: Mapping[str, str]) -> None:
    if not path.exists():
        _write(path, "".join(user_line(name, secret) for name, secret in users.items()), "x")
        return
    known = load_userlist(path)
    missing = "".join(user_line(name, secret) for name, secret in users.items() if name.encode() not in known)
    if missing:
        begun = path.read_bytes()
        _write(path, ("" if begun.endswith(b"\n") or not begun else "\n") + missing, "a")


def _write(path: Path, text: str, mode: str) -> None:
    """Write a file that only we may read, if it is new."""
    try:
        with open(path, mode, encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(text)
    except OSError as error:
        reason = f"cannot write {path}: {error.strerror or error} (--config-dir)"
        raise ConfigError([ConfigProblem(reason, file=str(path))]) from error
