"""Errors of a server as exceptions: one class for each SQLSTATE class, and for the conditions that programs ask for.

Source: PostgreSQL docs, "PostgreSQL Error Codes" and "Error and Notice Message Fields".
"""

from __future__ import annotations

from typing import Final

from pgpool_core.errors import PgPoolError, ServerProtocolError

__all__ = [
    "CannotConnectNow",
    "CheckViolation",
    "ConnectionFailure",
    "DataError",
    "DeadlockDetected",
    "DiskFull",
    "ExclusionViolation",
    "FeatureNotSupported",
    "ForeignKeyViolation",
    "InsufficientResources",
    "IntegrityError",
    "InvalidAuthorization",
    "InvalidTransactionState",
    "LockNotAvailable",
    "NotNullViolation",
    "ObjectNotReady",
    "OperatorIntervention",
    "PlpgsqlError",
    "PostgresError",
    "QueryCanceled",
    "SerializationFailure",
    "ServerInternalError",
    "ServerSystemError",
    "SyntaxOrAccessError",
    "TransactionRollback",
    "UndefinedTable",
    "UniqueViolation",
]


class PostgresError(PgPoolError):
    """An ErrorResponse to a query.

    Attributes:
        fields: every field by its one-letter code, as the server sent them.
    """

    severity = "ERROR"

    def __init__(self, fields: dict[str, str]) -> None:
        state = fields.get("C", "")
        super().__init__(
            fields.get("M", ""),
            detail=fields.get("D"),
            hint=fields.get("H"),
            sqlstate=state if len(state) == 5 and state.isascii() and state.isalnum() else "XX000",
        )
        self.args = (fields,)
        self.fields = fields
        self.severity = fields.get("V") or fields.get("S") or "ERROR"

    def _number(self, code: str) -> int | None:
        text = self.fields.get(code, "")
        return int(text) if text.isascii() and text.isdecimal() else None

    @property
    def position(self) -> int | None:
        """Where in the text of the query, in characters from 1."""
        return self._number("P")

    @property
    def internal_position(self) -> int | None:
        """Where in `internal_query`, in characters from 1."""
        return self._number("p")

    @property
    def internal_query(self) -> str | None:
        """The query of a function that failed."""
        return self.fields.get("q")

    @property
    def context(self) -> str | None:
        """Which functions were running, innermost first."""
        return self.fields.get("W")

    @property
    def schema_name(self) -> str | None:
        """The schema of what the error is about."""
        return self.fields.get("s")

    @property
    def table_name(self) -> str | None:
        """The table that the error is about."""
        return self.fields.get("t")

    @property
    def column_name(self) -> str | None:
        """The column that the error is about."""
        return self.fields.get("c")

    @property
    def data_type_name(self) -> str | None:
        """The type that the error is about."""
        return self.fields.get("d")

    @property
    def constraint_name(self) -> str | None:
        """The constraint that was violated."""
        return self.fields.get("n")


class ConnectionFailure(PostgresError):
    """Class 08."""


class FeatureNotSupported(PostgresError):
    """Class 0A."""


class DataError(PostgresError):
    """Class 22: a value is wrong for what is done with it."""


class IntegrityError(PostgresError):
    """Class 23: a constraint is violated."""


class NotNullViolation(IntegrityError):
    """23502."""


class ForeignKeyViolation(IntegrityError):
    """23503."""


class UniqueViolation(IntegrityError):
    """23505."""


class CheckViolation(IntegrityError):
    """23514."""


class ExclusionViolation(IntegrityError):
    """23P01."""


class InvalidTransactionState(PostgresError):
    """Class 25."""


class InvalidAuthorization(PostgresError):
    """Class 28."""


class TransactionRollback(PostgresError):
    """Class 40: the transaction is lost, and may be tried again."""


class SerializationFailure(TransactionRollback):
    """40001."""


class DeadlockDetected(TransactionRollback):
    """40P01."""


class SyntaxOrAccessError(PostgresError):
    """Class 42: the text is wrong, something in it does not exist, or is not allowed."""


class UndefinedTable(SyntaxOrAccessError):
    """42P01."""


class InsufficientResources(PostgresError):
    """Class 53."""


class DiskFull(InsufficientResources):
    """53100."""


class ObjectNotReady(PostgresError):
    """Class 55."""


class LockNotAvailable(ObjectNotReady):
    """55P03."""


class OperatorIntervention(PostgresError):
    """Class 57."""


class QueryCanceled(OperatorIntervention):
    """57014: statement_timeout, or a cancel request."""


class CannotConnectNow(OperatorIntervention):
    """57P03."""


class ServerSystemError(PostgresError):
    """Class 58."""


class PlpgsqlError(PostgresError):
    """Class P0: RAISE, and what else PL/pgSQL says."""


class ServerInternalError(PostgresError):
    """Class XX."""


_CLASSES: Final[dict[str, type[PostgresError]]] = {
    "08": ConnectionFailure,
    "0A": FeatureNotSupported,
    "22": DataError,
    "23": IntegrityError,
    "23502": NotNullViolation,
    "23503": ForeignKeyViolation,
    "23505": UniqueViolation,
    "23514": CheckViolation,
    "23P01": ExclusionViolation,
    "25": InvalidTransactionState,
    "28": InvalidAuthorization,
    "40": TransactionRollback,
    "40001": SerializationFailure,
    "40P01": DeadlockDetected,
    "42": SyntaxOrAccessError,
    "42P01": UndefinedTable,
    "53": InsufficientResources,
    "53100": DiskFull,
    "55": ObjectNotReady,
    "55P03": LockNotAvailable,
    "57": OperatorIntervention,
    "57014": QueryCanceled,
    "57P03": CannotConnectNow,
    "58": ServerSystemError,
    "P0": PlpgsqlError,
    "XX": ServerInternalError,
}


def read_fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse, by their one-letter codes.

    Raises:
        ServerProtocolError: a field or the list has no end.
    """
    *fields, last, rest = body.split(b"\0") if body.endswith(b"\0\0") else (b"", body)
    if last or rest:
        raise ServerProtocolError("an ErrorResponse has no end")
    return {chr(field[0]): field[1:].decode(errors="replace") for field in fields if field}


def error_of(fields: dict[str, str]) -> PostgresError:
    """The exception for an ErrorResponse."""
    state = fields.get("C", "")
    return (_CLASSES.get(state) or _CLASSES.get(state[:2]) or PostgresError)(fields)
