"""`pgpool-core check FILE`: what is wrong or doubtful with a configuration, all of it at once, without starting anything."""

from __future__ import annotations

import argparse
import json
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from pgpool_core.cli.here import doubts_here, refusals
from pgpool_core.cli.which_line import tell_line
from pgpool_core.config.doubts import doubts
from pgpool_core.config.load import Loaded, read_config
from pgpool_core.config.model import Config
from pgpool_core.config.problems import Place
from pgpool_core.control.access import address_of, load_access
from pgpool_core.control.routing import as_name, check_entries
from pgpool_core.control.server_tls import make_contexts, wishes_of
from pgpool_core.control.tls import client_tls
from pgpool_core.errors import ConfigError, ConfigProblem
from pgpool_core.policy.facts import Facts
from pgpool_core.policy.hba import Visitor
from pgpool_core.policy.userlist import Userlist, load_users

_LISTED: Final = ("trust", "plain", "md5", "scram-sha-256", "cert")
"""Values of auth_type with which a user must be known."""


@attrs.frozen
class Findings:
    """What a check has found."""

    errors: tuple[ConfigProblem, ...]
    """The pooler would not start."""
    warnings: tuple[ConfigProblem, ...]
    """It would, and somebody may be sorry."""


def main(argv: Sequence[str]) -> int:
    """0 when the file can be used, 1 when it cannot (or, with --strict, when there are warnings)."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.login is not None:
        return _tell_line(parser, arguments)
    found = check(arguments.file)
    print(_as_json(arguments.file, found) if arguments.json else _as_text(arguments.file, found))
    return 1 if found.errors or (arguments.strict and found.warnings) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pgpool-core check",
        description="Read a configuration, and the auth_file that it names, and tell everything that is wrong with them, and what "
        "contradicts itself. Nothing is started. Exit status: 0 it can be used, 1 it cannot.",
    )
    parser.add_argument("file", metavar="FILE", help="pgbouncer.ini, or the same as TOML (FILE.toml)")
    parser.add_argument("--strict", action="store_true", help="exit status 1 for warnings too")
    parser.add_argument(
        "--login", metavar="USER@DATABASE", help="tell which line of auth_hba_file decides about a login"
    )
    parser.add_argument(
        "--from",
        dest="address",
        metavar="ADDRESS",
        default="local",
        help="where it comes from; local = unix socket (default)",
    )
    parser.add_argument("--tls", action="store_true", help="with --login: it comes with TLS")
    parser.add_argument(
        "--replication", action="store_true", help="with --login: of a physical replica, to no database"
    )
    parser.add_argument(
        "--roles",
        metavar="ROLE,...",
        help="with --login: the roles that the user is a member of, which only a server knows",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    return parser


def _tell_line(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Print what auth_hba_file makes of one login: 0 when it may be tried, 1 when it is refused."""
    user, at, database = arguments.login.rpartition("@")
    try:
        address = None if arguments.address == "local" else address_of(arguments.address)
    except ValueError:
        parser.error(f"--from {arguments.address}: expected an IP address or local")
    if not at or not user or not database:
        parser.error(f"--login {arguments.login}: expected USER@DATABASE")
    loaded = read_config(arguments.file)
    if loaded.problems:
        print(_as_text(arguments.file, Findings(loaded.problems, ())))
        return 1
    roles = None if arguments.roles is None else frozenset([user, *filter(None, arguments.roles.split(","))])
    visitor = Visitor(
        database=database,
        user=user,
        address=address,
        is_replication=arguments.replication,
        is_encrypted=arguments.tls,
    )
    return tell_line(loaded.config, visitor, Facts(roles=roles))


def check(file: str) -> Findings:
    """Everything that can be said about `file` and this machine without opening a socket."""
    loaded = read_config(file)
    errors = list(loaded.problems)
    warnings: list[ConfigProblem] = []
    if _was_read(loaded):
        errors += _errors(loaded)
        warnings += doubts(loaded)
        try:
            users = load_users(loaded.config.auth_file)
        except ConfigError as error:
            errors += [_placed(loaded, problem) for problem in error.problems]
        else:
            warnings += _about_users(loaded, users)
        errors += [_placed(loaded, problem) for problem in refusals(loaded.config)]
        warnings += [_say(loaded, text, *keys) for text, *keys in doubts_here(loaded.config)]
        warnings += _about_readers(loaded, file)
        for make in (client_tls, _server_tls):
            try:
                make(loaded.config)
            except ConfigError as error:
                errors += [_placed(loaded, problem) for problem in error.problems]
        try:
            access = load_access(loaded.config, strict=False)
        except ConfigError as error:
            errors += [_placed(loaded, problem) for problem in error.problems]
        else:
            warnings += [_say(loaded, text, "auth_hba_file") for text in access.warnings()]
    return Findings(tuple(errors), tuple(warnings))


def _was_read(loaded: Loaded) -> bool:
    """Whether there is anything besides problems: what is missing from a file that is not there is no news."""
    return bool(loaded.places) or not loaded.problems


def _errors(loaded: Loaded) -> Iterator[ConfigProblem]:
    config = loaded.config
    try:
        check_entries(config)
    except ConfigError as error:
        yield from error.problems
    if not config.listen_addr and not config.unix_socket_dir:
        yield _say(loaded, "nothing to listen on: both listen_addr and unix_socket_dir are empty", "listen_addr")


def _about_users(loaded: Loaded, users: Userlist) -> Iterator[ConfigProblem]:
    config = loaded.config
    if config.auth_type not in _LISTED or getattr(config, "auth_user", None):
        return
    if not config.auth_file:
        text = f"nobody can log in: auth_type = {config.auth_type} looks users up in auth_file, which is not set"
        yield _say(loaded, text, "auth_file", "auth_type")
        return
    if not users:
        yield _say(loaded, f"nobody can log in: {config.auth_file} has no users", "auth_file")
        return
    for key in ("admin_users", "stats_users"):
        missing = [name for name in getattr(config, key) if name.encode() not in users]
        if missing:
            yield _say(loaded, f"not in {config.auth_file}, so they cannot log in: {', '.join(missing)}", key)
    useless = [as_name(name) for name in users if not _serves(config, users, name)]
    if useless:
        some = ", ".join(useless[:5]) + (f" and {len(useless) - 5} more" if len(useless) > 5 else "")
        text = f"secrets in {config.auth_file} with which auth_type = {config.auth_type} lets nobody in: {some}"
        yield _say(loaded, text, "auth_type", "auth_file")


def _serves(config: Config, users: Userlist, name: bytes) -> bool:
    """Whether a login with auth_type can match the secret of `name`."""
    secret = users.get(name)
    assert secret is not None
    match config.auth_type:
        case "scram-sha-256":
            return secret.plain is not None or secret.scram is not None
        case "trust" | "cert":
            return True
        case _:  # md5 takes SCRAM secrets too, plain takes any
            return secret.plain is not None or secret.md5 is not None or secret.scram is not None


def _server_tls(config: Config) -> None:
    make_contexts(wishes_of(config))


def _about_readers(loaded: Loaded, file: str) -> Iterator[ConfigProblem]:
    config = loaded.config
    if config.auth_file and _others_may_read(config.auth_file):
        yield _say(loaded, f"every user of this machine may read {config.auth_file}", "auth_file")
    if any(entry.password for entry in config.databases.values()) and _others_may_read(file):
        yield ConfigProblem(f"every user of this machine may read the passwords in {file}", file, None, "databases")
    for key in ("client_tls_key_file", "server_tls_key_file"):
        if (path := getattr(config, key)) and _others_may_read(path):
            yield _say(loaded, f"every user of this machine may read {path}", key)
    for path in dict.fromkeys(entry.sslkey for entry in config.databases.values()):
        if path and _others_may_read(path):
            yield ConfigProblem(f"every user of this machine may read {path} (sslkey)", file, None, "databases")


def _others_may_read(path: str) -> bool:
    try:
        return bool(stat.S_IMODE(os.stat(path).st_mode) & stat.S_IROTH)
    except OSError:
        return False


def _say(loaded: Loaded, text: str, *keys: str) -> ConfigProblem:
    """A sentence about `keys`, at the place of the first that is written."""
    written = (loaded.places.get(("pgbouncer", "", key)) for key in keys)
    place = next((place for place in written if place is not None), Place(section="pgbouncer"))
    return place.problem(f"{text} ({keys[0]})", keys[0])


def _placed(loaded: Loaded, problem: ConfigProblem) -> ConfigProblem:
    """A problem of another file, with the setting that names that file."""
    place = loaded.places.get(("pgbouncer", "", problem.key or ""))
    return problem if problem.line or place is None else place.problem(problem.text, problem.key)


def _as_text(file: str, found: Findings) -> str:
    lines = [f"error: {problem}" for problem in found.errors] + [f"warning: {problem}" for problem in found.warnings]
    counts = f"{_counted(len(found.errors), 'error')}, {_counted(len(found.warnings), 'warning')}"
    return "\n".join([*lines, f"{file}: {counts}"])


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _as_json(file: str, found: Findings) -> str:
    rows = [
        {"severity": severity, **attrs.asdict(problem)}
        for severity, problems in (("error", found.errors), ("warning", found.warnings))
        for problem in problems
    ]
    summary = {"file": file, "errors": len(found.errors), "warnings": len(found.warnings), "problems": rows}
    return json.dumps(summary, indent=2)
