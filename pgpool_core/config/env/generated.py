"""What an environment asks for: lines of an ini and of a userlist, and the variables that the application is to see."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final, cast

import attrs

from pgpool_core.config.problems import quoted
from pgpool_core.config.settings import DATABASE_KEYS
from pgpool_core.config.units import is_clean
from pgpool_core.errors import ConfigError, ConfigProblem

Environ = Mapping[str, str]

KINDS: Final = ("docker", "heroku", "bitnami")
"""Whose variables: the image edoburu/pgbouncer, the buildpack heroku/heroku-buildpack-pgbouncer, Bitnami's chart."""

MASK: Final = "********"
PREFIX: Final = "PGBOUNCER_"

_KUBERNETES: Final = re.compile(
    r"PGBOUNCER_(SERVICE_|PORT_[0-9])"
)  # set for every container beside a service of that name
_WORD: Final = re.compile(r"[A-Za-z0-9_.*-]+")
_BARE: Final = re.compile(r"[^\s']+")


@attrs.frozen(kw_only=True, repr=False)
class Entry:
    """A line of [databases]."""

    name: str
    pairs: Mapping[str, str]

    def line(self, *, show_secrets: bool) -> str:
        """The line as an ini has it."""
        name = self.name if _WORD.fullmatch(self.name) else "'" + self.name.replace("'", "''") + "'"
        return f"{name} = {' '.join(_pair(key, value, show_secrets) for key, value in self.pairs.items())}"


@attrs.frozen(kw_only=True, repr=False)
class Generated:
    """What one environment asks for."""

    folder: str
    """Where pgbouncer.ini belongs; the userlist is where auth_file says."""
    settings: Mapping[str, str]
    """[pgbouncer], in the order of the lines; auth_file among them."""
    databases: tuple[Entry, ...]
    users: Mapping[str, str]
    """The userlist: names and secrets."""
    exports: Mapping[str, str] = {}
    """Variables that the application behind the pooler is to see in place of its own."""
    warnings: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        """A decoded URL, or a password, may have a line end, which would begin another line of a file."""
        texts = [*self.users.items(), *((entry.name, *entry.pairs.values()) for entry in self.databases)]
        if any(end in text for row in texts for text in row for end in "\n\r\0"):
            text = "a name, a password or a part of a URL in the environment has a line end, and no file can hold it"
            raise ConfigError([ConfigProblem(text)])

    def ini(self, *, show_secrets: bool = False) -> str:
        """The text of pgbouncer.ini."""
        lines = ["[databases]", *(entry.line(show_secrets=show_secrets) for entry in self.databases), "", "[pgbouncer]"]
        lines += [f"{name} = {_literal(value)}".rstrip() for name, value in self.settings.items()]
        return "\n".join(lines) + "\n"

    def userlist(self, *, show_secrets: bool = False) -> str:
        """The text of the userlist."""
        return "".join(user_line(name, secret if show_secrets else MASK) for name, secret in self.users.items())

    def shell(self, *, show_secrets: bool = False) -> str:
        """`exports` as lines for a shell."""
        shown = {name: value if show_secrets else _masked_url(value) for name, value in self.exports.items()}
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in shown.items())


def unread(environ: Environ, is_read: Callable[[str], object]) -> tuple[str, ...]:
    """A warning about variables that begin like ours and mean nothing here; `is_read` is asked for the rest of each name."""
    names = [name for name, value in sorted(environ.items()) if name.startswith(PREFIX) and value]
    left = [name for name in names if not is_read(name.removeprefix(PREFIX)) and not _KUBERNETES.match(name)]
    return (f"not read, because nothing is known of them: {', '.join(left)}",) if left else ()


def generate(kind: str, environ: Environ, folder: str | None = None) -> Generated:
    """What the variables of `environ` ask for, read as `kind` (of KINDS) reads them.

    Args:
        folder: where the files are to be, instead of where that packaging has them.

    Raises:
        ConfigError: a variable is missing or cannot be used; names every one, and repeats no value that may be secret.
    """
    module = import_module(f"pgpool_core.config.env.{kind}")
    return cast("Callable[[Environ, str | None], Generated]", module.generate)(environ, folder)


def folder_of(kind: str, environ: Environ) -> str:
    """Where `kind` has its files."""
    module = import_module(f"pgpool_core.config.env.{kind}")
    return cast("Callable[[Environ], str]", module.folder_of)(environ)


def one_line(environ: Environ, name: str) -> str:
    """The variable `name` as a value of an ini; empty where it is not set.

    Raises:
        ConfigError: it cannot stand in a line.
    """
    value = environ.get(name, "")
    if "\n" in value or not is_clean(value):
        raise problem(name, "has a line end or is not a text in UTF-8")
    return value.strip(" \t\r\f\v")


def problem(name: str, what: str) -> ConfigError:
    """A variable that cannot be used."""
    return ConfigError([ConfigProblem(f"environment variable {name} {what}", key=name)])


def user_line(name: str, secret: str) -> str:
    """One line of a userlist."""
    return " ".join('"' + text.replace('"', '""') + '"' for text in (name, secret)) + "\n"


def _pair(key: str, value: str, show_secrets: bool) -> str:
    if getattr(DATABASE_KEYS[key].kind if key in DATABASE_KEYS else None, "secret", False):
        value = value if show_secrets else MASK
    value = _literal(value)
    return f"{key}={value}" if _BARE.fullmatch(value) else f"{key}='" + value.replace("'", "''") + "'"


def _literal(value: str) -> str:
    """`value` so that nothing in it is taken for a variable."""
    return value.replace("${", "$${")


def _masked_url(url: str) -> str:
    return re.sub(r"(?<=://)([^:@/]*):[^@]*@", rf"\1:{MASK}@", url)


def database_problem(variable: str, error: ConfigError) -> ConfigError:
    """What is wrong with a URL in `variable`."""
    return ConfigError(
        [ConfigProblem(f"environment variable {variable}: {each.text}", key=variable) for each in error.problems]
    )


def twice(names: list[str]) -> str | None:
    """The first name that comes twice, in quotes."""
    return next((quoted(name) for at, name in enumerate(names) if name in names[:at]), None)
