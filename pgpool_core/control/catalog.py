"""The question to PostgreSQL's catalogs about functions and what calls them, and its answer; bytes in, rows out.

It needs no more rights than any user has. It is one simple Query, hence one transaction, which leaves nothing behind.
Source: PostgreSQL docs, "System Catalogs"; "Message Flow", Simple Query.
"""

from __future__ import annotations

import struct
from typing import Final

from pgpool_core.control.effects import Kind, Thing
from pgpool_core.control.messages import (
    BE_COMMAND_COMPLETE,
    BE_DATA_ROW,
    BE_ERROR_RESPONSE,
    BE_NOTICE_RESPONSE,
    BE_NOTIFICATION_RESPONSE,
    BE_PARAMETER_STATUS,
    BE_READY_FOR_QUERY,
    BE_ROW_DESCRIPTION,
    FE_QUERY,
    HEADER_LEN,
    ErrorFields,
    data_row,
    message,
    ready_status,
)
from pgpool_core.errors import ServerProtocolError

MAX_BODY: Final = 200_000  # characters of one definition that are read
MAX_ANSWER: Final = 64 * 1024 * 1024  # bytes of all of them
ANSWER_MS: Final = 5_000  # PostgreSQL gives up after so long
OWN_OID: Final = 16384  # FirstNormalObjectId: below it is what PostgreSQL brings along

_DDL: Final = ("create", "alter", "drop", "grant", "revoke", "comment")
_SQL_BODY_SINCE: Final = 14  # pg_get_function_sqlbody

_QUESTION: Final = """
SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = {timeout};
SELECT 'f', proname::text, lanname::text, coalesce({body}, prosrc) || ' ' ||
  CASE WHEN pronargdefaults > 0 THEN pg_get_function_arguments(p.oid) ELSE '' END
FROM pg_proc p JOIN pg_language l ON l.oid = prolang
WHERE p.oid >= {own} AND lanname NOT IN ('c', 'internal')
UNION ALL SELECT 'r', p.proname::text, 'sql', concat_ws(' ', a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggmfinalfn)
FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid WHERE p.oid >= {own}
UNION ALL SELECT 'w', c.relname::text, 'sql', f.proname::text || ' ' || coalesce(
  substring(pg_get_triggerdef(t.oid) from ' WHEN (.*) EXECUTE '), '')
FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_proc f ON f.oid = tgfoid
WHERE NOT tgisinternal AND tgenabled <> 'D'
UNION ALL SELECT 'w', p.relname::text, 'sql', c.relname::text
FROM pg_inherits i JOIN pg_class p ON p.oid = inhparent JOIN pg_class c ON c.oid = inhrelid
UNION ALL SELECT 'w', p.relname::text, 'sql', c.relname::text
FROM pg_constraint k JOIN pg_class p ON p.oid = confrelid JOIN pg_class c ON c.oid = conrelid
WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
UNION ALL SELECT 'r', relname::text, 'sql', pg_get_viewdef(oid) FROM pg_class WHERE relkind = 'v' AND oid >= {own}
UNION ALL SELECT 'w', c.relname::text, 'sql', substring(pg_get_ruledef(r.oid) from ' DO (.*)$')
FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class WHERE r.rulename <> '_RETURN' AND r.oid >= {own}
UNION ALL SELECT 'w', c.relname::text, 'sql', pg_get_expr(d.adbin, d.adrelid)
FROM pg_attrdef d JOIN pg_class c ON c.oid = adrelid WHERE EXISTS (SELECT FROM pg_depend e
  WHERE e.classid = 'pg_attrdef'::regclass AND e.objid = d.oid AND e.refclassid = 'pg_proc'::regclass)
UNION ALL SELECT CASE WHEN contypid = 0 THEN 'w' ELSE 'r' END,
  coalesce(c.relname, t.typname)::text, 'sql', pg_get_constraintdef(k.oid)
FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = conrelid LEFT JOIN pg_type t ON t.oid = contypid
WHERE contype = 'c' AND EXISTS (SELECT FROM pg_depend e
  WHERE e.classid = 'pg_constraint'::regclass AND e.objid = k.oid AND e.refclassid = 'pg_proc'::regclass)
UNION ALL SELECT 'r', c.relname::text, 'sql',
  concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
FROM pg_policy p JOIN pg_class c ON c.oid = polrelid WHERE EXISTS (SELECT FROM pg_depend e
  WHERE e.classid = 'pg_policy'::regclass AND e.objid = p.oid AND e.refclassid = 'pg_proc'::regclass)
UNION ALL SELECT 'r', w, 'sql', f.proname::text FROM pg_event_trigger t JOIN pg_proc f ON f.oid = evtfoid,
  unnest(ARRAY[{ddl}]) w WHERE evtenabled <> 'D' AND evtevent <> 'login'
"""

_KINDS: Final[dict[bytes, Kind]] = {b"f": "function", b"r": "read", b"w": "written"}
_SKIPPED: Final = frozenset(
    (BE_ROW_DESCRIPTION, BE_COMMAND_COMPLETE, BE_NOTICE_RESPONSE, BE_NOTIFICATION_RESPONSE, BE_PARAMETER_STATUS)
)


def question(server_version: bytes) -> bytes:
    """The Query message for a server that calls itself so."""
    digits = server_version.split(b".")[0].split()[:1]
    major = int(digits[0]) if digits and digits[0].isdigit() else 0
    body = "pg_get_function_sqlbody(p.oid)" if major >= _SQL_BODY_SINCE else "NULL"
    ddl = ", ".join(f"'{word}'" for word in _DDL)
    sql = _QUESTION.format(timeout=ANSWER_MS, body=body, own=OWN_OID, ddl=ddl)
    return message(FE_QUERY, " ".join(sql.split()).encode() + b"\0")


class CatalogAnswer:
    """Takes the server's bytes until its ReadyForQuery; then `things` and `error` say what it has answered."""

    def __init__(self, unread: bytes = b"") -> None:
        self.things: list[Thing] = []
        self.error: ErrorFields | None = None
        self.done = False
        self._in = bytearray()
        self._total = 0
        self.receive(unread)

    @property
    def unread(self) -> bytes:
        """What came behind the end of the answer."""
        return bytes(self._in)

    def receive(self, data: bytes) -> None:
        """Take bytes.

        Raises:
            ServerProtocolError: the server broke the protocol, or has more to say than is read.
        """
        self._in += data
        at = 0
        while not self.done and len(self._in) - at >= HEADER_LEN:
            code, length = struct.unpack_from("!BI", self._in, at)
            if length < 4 or length > MAX_ANSWER:
                raise ServerProtocolError(
                    f"message {code:#04x} with length {length} in answer to a question about functions"
                )
            if len(self._in) - at < length + 1:
                break
            self._total += length
            if self._total > MAX_ANSWER:
                raise ServerProtocolError("the definitions of functions are longer than can be read")
            self._take(code, bytes(self._in[at + HEADER_LEN : at + length + 1]))
            at += length + 1
        del self._in[:at]

    def _take(self, code: int, body: bytes) -> None:
        if code == BE_DATA_ROW:
            self._row(body)
        elif code == BE_ERROR_RESPONSE:
            self.error = self.error or ErrorFields.parse(code, body)
        elif code == BE_READY_FOR_QUERY:
            if ready_status(body) != 0x49:
                raise ServerProtocolError("a transaction was left open by a question about functions")
            self.done = True
        elif code not in _SKIPPED:
            raise ServerProtocolError(f"message {code:#04x} in answer to a question about functions")

    def _row(self, body: bytes) -> None:
        fields = [value or b"" for value in data_row(body)]
        if len(fields) != 4 or fields[0] not in _KINDS:
            raise ServerProtocolError("a row with other columns than were asked for")
        kind, name, language, text = fields
        self.things.append(Thing(_KINDS[kind], name, language, text))
