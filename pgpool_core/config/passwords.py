"""Where the password for a server comes from when it is not written down: a file, a command, a function of the program.

These are asked for each server connection that is opened, so that a password may change at any time. Here is only what a
configuration says of them; `control.passwords` asks.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable

import attrs

from pgpool_core.config.units import Text, is_clean


@attrs.frozen
class PasswordFile:
    """`password=file:/path`."""

    path: str


@attrs.frozen
class PasswordCommand:
    """`password_command`: a program and its arguments, which may be secret themselves."""

    words: tuple[str, ...] = attrs.field(repr=False)

    @classmethod
    def parse(cls, text: str) -> PasswordCommand:
        """Take a command line apart as a shell would, which none of it ever meets: no variables, no patterns, no pipes.

        Raises:
            ValueError: a quote is open, or there is no command; does not repeat the text.
        """
        try:
            words = tuple(shlex.split(text))
        except ValueError:
            words = ()
        if not words or not words[0]:
            raise ValueError("not a command line")
        return cls(words)


@attrs.frozen(kw_only=True)
class PasswordWanted:
    """What a function is told about the connection that it gives a password for."""

    user: str
    database: str  # as the server calls it
    host: str  # of [databases]: name, address, folder of a unix socket
    port: int


PasswordFunction = Callable[[PasswordWanted], Awaitable[str]]
Password = str | PasswordFile | PasswordFunction
"""Values of `password`."""
PasswordSource = PasswordFile | PasswordCommand | PasswordFunction
"""What has to be asked each time."""


@attrs.frozen
class PasswordText(Text):
    """A password; from a program also a PasswordFile, or an async function that gives it."""

    def check(self, value: object) -> Password | None:  # type: ignore[override]
        if isinstance(value, PasswordFile) or callable(value):
            return value
        return super().check(value)


@attrs.frozen
class CommandLine:
    """A command with its arguments, quoted as for a shell; kept as written."""

    accepts: str = "a command with its arguments, quoted as for a shell"
    unit: str = ""
    secret: bool = True

    def parse(self, text: str) -> str:
        return self.check(text)

    def check(self, value: object) -> str:
        if not isinstance(value, str) or not is_clean(value):
            raise ValueError(value)
        PasswordCommand.parse(value)
        return value

    def show(self, value: object) -> str:
        return str(value)
