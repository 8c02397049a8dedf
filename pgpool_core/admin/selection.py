r"""`SHOW pools WHERE database = 'app' AND cl_waiting > 0 ORDER BY maxwait DESC LIMIT 5`: rows of a console table, chosen.

    SHOW table | SELECT * FROM table | SELECT column, ... FROM table
        [WHERE condition [AND condition ...]]    column = <> != < <= > >= value, [NOT] LIKE 'pat%', [NOT] ILIKE, IS [NOT] NULL
        [ORDER BY column [ASC|DESC], ...] [LIMIT n] [OFFSET n]

A value is a number, 'text' or a parameter such as $1. Ours; PgBouncer's console has no such thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from operator import eq, ge, gt, le, lt, ne
from typing import Final

import attrs

from pgpool_core.admin.reply import INT4, INT8, NUMERIC, Cell, Cells, Column
from pgpool_core.admin.sqlwords import Token, tokens
from pgpool_core.errors import CommandRefused

SYNTAX_ERROR: Final = "42601"
NO_SUCH_COLUMN: Final = "42703"
BAD_VALUE: Final = "22P02"
MAX_PARAMETERS: Final = 100

_COMPARE: Final = {"=": eq, "<>": ne, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_CLAUSES: Final = frozenset(("WHERE", "ORDER", "LIMIT", "OFFSET"))


@attrs.frozen
class Parameter:
    """`$number`."""

    number: int


Value = str | Parameter | None


@attrs.frozen
class Condition:
    """`column operator value`; operators are those of _COMPARE, LIKE, ILIKE, NOT LIKE, NOT ILIKE, IS NULL, IS NOT NULL."""

    column: str
    operator: str
    value: Value


@attrs.frozen
class Selection:
    """What is to be shown of a table."""

    text: str
    table: str
    columns: tuple[str, ...] = ()
    """None given: all."""
    where: tuple[Condition, ...] = ()
    order: tuple[tuple[str, bool], ...] = ()
    """Columns, and whether the highest comes first."""
    limit: Value = None
    offset: Value = None

    @property
    def parameters(self) -> int:
        """The highest parameter that occurs."""
        values = [*(condition.value for condition in self.where), self.limit, self.offset]
        return max((value.number for value in values if isinstance(value, Parameter)), default=0)


def parse_selection(text: str) -> Selection | None:
    """The selection that `text` asks for; None when it is not one, but perhaps a plain command.

    Raises:
        CommandRefused: it begins as one and goes wrong (42601).
    """
    words = [token for token in tokens(text) if token.text != ";"]
    reader = _Reader(words)
    if reader.takes("SHOW"):
        if len(words) < 3 or words[2].upper not in _CLAUSES:
            return None
        columns: tuple[str, ...] = ()
    elif reader.takes("SELECT"):
        if not any(word.upper == "FROM" for word in words):
            return None
        columns = reader.column_list()
        reader.must("FROM")
    else:
        return None
    return reader.rest(text, columns)


class _Reader:
    """Reads words one after the other."""

    def __init__(self, words: Sequence[Token]) -> None:
        self._words = words
        self._at = 0
        self._numbers = set[int]()

    def takes(self, *expected: str) -> bool:
        """Step over these words if they come next."""
        part = self._words[self._at : self._at + len(expected)]
        if [word.upper or word.text for word in part] != list(expected):
            return False
        self._at += len(expected)
        return True

    def must(self, expected: str) -> None:
        if not self.takes(expected):
            raise self._wrong()

    def _wrong(self) -> CommandRefused:
        if self._at >= len(self._words):
            return CommandRefused("syntax error at end of input", sqlstate=SYNTAX_ERROR)
        return CommandRefused(f'syntax error at or near "{self._words[self._at].text[:60]}"', sqlstate=SYNTAX_ERROR)

    def _name(self) -> str:
        if self._at >= len(self._words) or self._words[self._at].kind not in ("word", "name"):
            raise self._wrong()
        word = self._words[self._at]
        self._at += 1
        return word.value.lower() if word.kind == "word" else word.value

    def column_list(self) -> tuple[str, ...]:
        if self.takes("*"):
            return ()
        found = [self._name()]
        while self.takes(","):
            found.append(self._name())
        return tuple(found)

    def _value(self) -> Value:
        if self._at >= len(self._words):
            raise self._wrong()
        word = self._words[self._at]
        if word.kind == "parameter" and 1 <= int(word.text[1:]) <= MAX_PARAMETERS:
            self._numbers.add(int(word.text[1:]))
            value: Value = Parameter(int(word.text[1:]))
        elif word.kind in ("string", "number"):
            value = word.value
        else:
            raise self._wrong()
        self._at += 1
        return value

    def _condition(self) -> Condition:
        column = self._name()
        if self.takes("IS", "NULL"):
            return Condition(column, "IS NULL", None)
        if self.takes("IS", "NOT", "NULL"):
            return Condition(column, "IS NOT NULL", None)
        for likeness in ("LIKE", "ILIKE"):
            if self.takes(likeness):
                return Condition(column, likeness, self._value())
            if self.takes("NOT", likeness):
                return Condition(column, f"NOT {likeness}", self._value())
        operator = self._words[self._at].text if self._at < len(self._words) else ""
        if operator not in _COMPARE:
            raise self._wrong()
        self._at += 1
        return Condition(column, operator, self._value())

    def _ordered_by(self) -> tuple[str, bool]:
        column = self._name()
        if self.takes("DESC"):
            return column, True
        self.takes("ASC")
        return column, False

    def rest(self, text: str, columns: tuple[str, ...]) -> Selection:
        table, where, order = self._name(), list[Condition](), list[tuple[str, bool]]()
        limit: Value = None
        offset: Value = None
        if self.takes("WHERE"):
            where.append(self._condition())
            while self.takes("AND"):
                where.append(self._condition())
        if self.takes("ORDER", "BY"):
            order.append(self._ordered_by())
            while self.takes(","):
                order.append(self._ordered_by())
        while self._at < len(self._words):
            if limit is None and self.takes("LIMIT"):
                limit = self._value()
            elif offset is None and self.takes("OFFSET"):
                offset = self._value()
            else:
                raise self._wrong()
        if self._numbers and self._numbers != set(range(1, max(self._numbers) + 1)):
            missing = min(set(range(1, max(self._numbers))) - self._numbers)
            raise CommandRefused(f"could not determine data type of parameter ${missing}", sqlstate="42P18")
        return Selection(text, table, columns, tuple(where), tuple(order), limit, offset)


def chosen_columns(selection: Selection, table: Sequence[Column]) -> tuple[Column, ...]:
    """The columns that come out.

    Raises:
        CommandRefused: the table has no such column (42703).
    """
    _check_names(selection, table)
    if not selection.columns:
        return tuple(table)
    by_name = {column.name: column for column in table}
    return tuple(by_name[name] for name in selection.columns)


def parameter_types(selection: Selection, table: Sequence[Column]) -> tuple[int, ...]:
    """The type of each parameter: that of the column which it is compared with."""
    found = [INT8] * selection.parameters
    by_name = {column.name: column.oid for column in table}
    for condition in selection.where:
        if isinstance(condition.value, Parameter):
            found[condition.value.number - 1] = by_name[condition.column]
    return tuple(found)


def _check_names(selection: Selection, table: Sequence[Column]) -> None:
    names = {column.name for column in table}
    used = [*selection.columns, *(condition.column for condition in selection.where), *(n for n, _ in selection.order)]
    for name in used:
        if name not in names:
            raise CommandRefused(f'column "{name[:63]}" does not exist', sqlstate=NO_SUCH_COLUMN)


def select(
    selection: Selection, table: Sequence[Column], rows: Sequence[Cells], parameters: Sequence[str | None]
) -> list[Cells]:
    """The rows that `selection` asks for.

    Args:
        parameters: the values of $1 and following, as text.

    Raises:
        CommandRefused: no such column; a value does not fit its column.
    """
    _check_names(selection, table)
    place = {column.name: number for number, column in enumerate(table)}

    def given(value: Value) -> str | None:
        return parameters[value.number - 1] if isinstance(value, Parameter) else value

    found = list(rows)
    for condition in selection.where:
        at = place[condition.column]
        test = _Test(condition, table[at], given(condition.value))
        found = [row for row in found if test(row[at])]
    for name, highest_first in reversed(selection.order):
        at = place[name]
        found.sort(key=lambda row: _rank(row[at]), reverse=highest_first)
    first = _count(given(selection.offset), "OFFSET") or 0
    most = _count(given(selection.limit), "LIMIT")
    found = found[first:] if most is None else found[first : first + most]
    if selection.columns:
        wanted = [place[name] for name in selection.columns]
        return [[row[at] for at in wanted] for row in found]
    return found


def _rank(cell: Cell) -> tuple[int, int, str]:
    """Sorts numbers as such; NULL behind all, as PostgreSQL."""
    if cell is None:
        return (1, 0, "")
    return (0, cell, "") if isinstance(cell, int) else (0, 0, str(cell))


def _count(text: str | None, clause: str) -> int | None:
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        raise CommandRefused(f'invalid input syntax for type bigint: "{text[:60]}"', sqlstate=BAD_VALUE) from None
    if number < 0:
        raise CommandRefused(f"{clause} must not be negative", sqlstate="2201W" if clause == "LIMIT" else "2201X")
    return number


class _Test:
    """One condition, ready to be put to cells. NULL meets none but IS NULL."""

    def __init__(self, condition: Condition, column: Column, value: str | None) -> None:
        self._operator = condition.operator
        self._number: Decimal | None = None
        self._text = value
        if condition.operator in _COMPARE and value is not None and column.oid in (INT4, INT8, NUMERIC):
            try:
                self._number = Decimal(value)
                if not self._number.is_finite():
                    raise InvalidOperation
            except InvalidOperation:
                text = f'invalid input syntax for type numeric: "{value[:60]}"'
                raise CommandRefused(text, sqlstate=BAD_VALUE) from None

    def __call__(self, cell: Cell) -> bool:
        if self._operator == "IS NULL":
            return cell is None
        if cell is None or (self._text is None and self._operator != "IS NOT NULL"):
            return False
        if self._operator == "IS NOT NULL":
            return True
        if self._number is not None and isinstance(cell, int):
            return bool(_COMPARE[self._operator](cell, self._number))
        text, pattern = str(cell), self._text or ""
        if self._operator in _COMPARE:
            return bool(_COMPARE[self._operator](text, pattern))
        if "ILIKE" in self._operator:
            text, pattern = text.lower(), pattern.lower()
        return like(text, pattern) != self._operator.startswith("NOT")


def like(text: str, pattern: str) -> bool:
    """SQL's LIKE: `%` is any text, `_` any character, a backslash takes the next one as it is.

    In time proportional to the product of the lengths at most, whatever the pattern is.
    """
    parts = _pattern(pattern)
    at = part = 0
    star, star_at = -1, 0
    while at < len(text):
        if part < len(parts) and parts[part] != "%" and (parts[part] == "_" or parts[part][-1] == text[at]):
            at, part = at + 1, part + 1
        elif part < len(parts) and parts[part] == "%":
            star, star_at, part = part, at, part + 1
        elif star >= 0:
            star_at += 1
            at, part = star_at, star + 1
        else:
            return False
    return all(rest == "%" for rest in parts[part:])


def _pattern(pattern: str) -> list[str]:
    """One item for each character: `%`, `_`, or `=` and what must stand there."""
    parts, escaped = list[str](), False
    for char in pattern:
        if escaped or char not in "%_\\":
            parts.append("=" + char)
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            parts.append(char)
    return parts
