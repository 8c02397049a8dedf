"""Maps of auth_ident_file: which database users a user of the operating system may be.

`map system-user database-user`; the database user may be `all`, or `+role` for its members. As in PostgreSQL, a name that begins with `/` is a regular expression,
and `\\1` in the database user is what the system user's expression has captured.
Source: PostgreSQL docs, "User Name Maps"; PgBouncer docs, "Ident map file format".
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from pgpool_core.policy.facts import NOTHING, Facts
from pgpool_core.policy.regex import Expression, captures_alike, compile_pattern
from pgpool_core.policy.tokens import Line, Word, read_lines, split_lines


@attrs.frozen
class Entry:
    """One line."""

    system: Word
    system_pattern: Expression | None
    user: Word
    user_pattern: Expression | None

    @property
    def group(self) -> str:
        """The role whose members the line is about, empty where it is about another."""
        return self.user.text[1:] if not self.user.quoted and self.user.text[:1] == "+" else ""

    def fits(self, system_user: str, user: str, facts: Facts) -> bool:
        """Whether the line lets `system_user` be `user`.

        Raises:
            FactWanted: that depends on the user's roles.
        """
        if self.system_pattern is None:
            if self.system.text != system_user:
                return False
        else:
            if not self.system_pattern.fits(system_user):
                return False
            if self.user_pattern is None and "\\1" in self.user.text:
                captured = self.system_pattern.captured(system_user)
                return (
                    captured is not None and self.user.text.replace("\\1", captured, 1) == user
                )  # a name, whatever it looks like
        if self.user_pattern is not None:
            return self.user_pattern.fits(user)
        if self.group:
            return facts.is_member(self.group)
        return self.user.keyword("all") or self.user.text == user


@attrs.frozen(kw_only=True)
class IdentMaps:
    """All maps of a file, and the lines that are none, each with the reason."""

    maps: dict[str, tuple[Entry, ...]] = attrs.field(factory=dict)
    problems: tuple[str, ...] = ()

    def fits(self, name: str, system_user: str, user: str, facts: Facts = NOTHING) -> bool:
        """Whether `system_user` may be `user`; without a map (an empty name), whether they are the same.

        Raises:
            FactWanted: that depends on the user's roles.
        """
        if not name:
            return system_user == user
        return any(entry.fits(system_user, user, facts) for entry in self.maps.get(name, ()))


def load_maps(path: str) -> IdentMaps:
    """Read an auth_ident_file.

    Raises:
        OSError: it cannot be read.
    """
    return _maps(read_lines(path))


def parse_maps(text: str, path: str = "<auth_ident_file>") -> IdentMaps:
    """Read the text of an auth_ident_file; `path` is for problems."""
    return _maps(split_lines(text, path))


def _maps(lines: Iterable[Line]) -> IdentMaps:
    maps: dict[str, tuple[Entry, ...]] = {}
    problems: list[str] = []
    for line in lines:
        try:
            name, entry = _entry(line)
        except ValueError as problem:
            problems.append(f"{line.file}:{line.number}: {problem}")
        else:
            maps[name] = (*maps.get(name, ()), entry)
    return IdentMaps(maps=maps, problems=tuple(problems))


def _entry(line: Line) -> tuple[str, Entry]:
    if line.problem:
        raise ValueError(line.problem)
    if len(line.fields) != 3 or any(len(field) != 1 or not field[0].text for field in line.fields):
        raise ValueError("a line is: map system-user database-user")
    name, system, user = (field[0] for field in line.fields)
    if user.text == "+" and not user.quoted:
        raise ValueError("an empty name")
    system_pattern = compile_pattern(system.text[1:]) if system.text[:1] == "/" else None
    user_pattern = compile_pattern(user.text[1:]) if user.text[:1] == "/" else None
    if user_pattern is None and "\\1" in user.text and (system_pattern is None or not system_pattern.captures):
        raise ValueError("\\1 needs a system user with a regular expression that captures something")
    if user_pattern is None and "\\1" in user.text and not captures_alike(system.text[1:]):
        raise ValueError(
            "for \\1 the regular expression has to end with $, and to have no | up to the end of what it captures"
        )
    return name.text, Entry(system, system_pattern, user, user_pattern)
