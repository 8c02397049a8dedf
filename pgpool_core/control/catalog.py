"""The question to PostgreSQL's catalogs about functions and what calls them, and its answer; bytes in, rows out.

It needs no more rights than any user has. It is one simple Query, hence one transaction, which leaves nothing behind.
Source: PostgreSQL docs, "System Catalogs"; "Message Flow", Simple Query.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
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
from pgpool_core.session.bodies import FUNCTIONS

MAX_ANSWER: Final = 64 * 1024 * 1024  # bytes of all of them
ANSWER_MS: Final = 5_000  # PostgreSQL gives up after so long
LOCK_MS: Final = 1_000  # and after so long for a view that somebody is changing: its text is read under a lock
OWN_OID: Final = 16384  # FirstNormalObjectId: below it is what PostgreSQL brings along

_DDL: Final = ("create", "alter", "drop", "grant", "revoke", "comment", "import", "refresh", "reindex", "security")
_JIT_SINCE: Final = 11
_SQL_BODY_SINCE: Final = 14  # pg_get_function_sqlbody

# Whether an expression calls a function that may matter: users' own, or one of those that the scan knows by name. Oids stand
# in the tree that PostgreSQL keeps, whether pg_depend has them (users') or not (its own).
_CALLS: Final = """EXISTS (SELECT FROM unnest((string_to_array({tree}::text, ':funcid '))[2:]) n, split_part(n, ' ', 1) f
  WHERE f = ANY (known) OR length(f) > {digits} OR length(f) = {digits} AND f COLLATE "C" >= '{own}')"""

# Of the expressions of tables and types only those are sent that may matter. `made` are types that run such an expression,
# directly or by what they are made of; `emptied` are tables that TRUNCATE CASCADE may begin at, and the triggers it comes to.
_QUESTION: Final = """
SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = {timeout}; SET LOCAL lock_timeout = {lock};{plainly}
WITH RECURSIVE matter (known) AS (SELECT array_agg(oid::text) FROM pg_proc WHERE oid < {own} AND proname IN ({functions})),
tested (typ, expr) AS (
  SELECT contypid, pg_get_constraintdef(k.oid) FROM pg_constraint k, matter WHERE contypid <> 0 AND {conbin}
  UNION ALL SELECT oid, pg_get_expr(typdefaultbin, 0) FROM pg_type, matter WHERE {typdefaultbin}),
made (oid, part) AS (SELECT typ, 0::oid FROM tested
  UNION SELECT u.oid, u.part FROM made JOIN (
    SELECT oid, typbasetype AS part FROM pg_type WHERE typtype = 'd'
    UNION ALL SELECT oid, typelem FROM pg_type WHERE typelem <> 0 AND typlen = -1
    UNION ALL SELECT rngtypid, rngsubtype FROM pg_range
    UNION ALL SELECT reltype, atttypid FROM pg_class c JOIN pg_attribute ON attrelid = c.oid
      WHERE relkind = 'c' AND attnum > 0 AND NOT attisdropped) u ON u.part = made.oid),
emptied (relid, func) AS (SELECT tgrelid, tgfoid FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 32 <> 0
  UNION SELECT confrelid, func FROM emptied JOIN pg_constraint ON contype = 'f' AND conrelid = relid)
SELECT 'f', proname::text, lanname::text, coalesce({body}, prosrc) || ' ' ||
  CASE WHEN pronargdefaults > 0 THEN pg_get_function_arguments(p.oid) ELSE '' END ||
  CASE WHEN prosrc ~* 'create|into|execute' AND EXISTS (SELECT FROM unnest(proconfig) s
    WHERE s ~* '^search_path=.*pg_temp' AND NOT EXISTS (SELECT FROM pg_namespace WHERE nspname =
      ANY (string_to_array(translate(substring(lower(s) from '^search_path=(.*?)"?pg_temp'), '" ', ''), ',')))) THEN ' pg_temp' ELSE '' END
FROM pg_proc p JOIN pg_language l ON l.oid = prolang
WHERE p.oid >= {own} AND lanname NOT IN ('c', 'internal')
UNION ALL SELECT DISTINCT 'r', p.proname::text, 'sql', t.typname::text
FROM pg_proc p, unnest(proargtypes::oid[] || proallargtypes || prorettype) a JOIN made m ON m.oid = a JOIN pg_type t ON t.oid = a
WHERE p.oid >= {own}
UNION ALL SELECT 'r', p.proname::text, 'sql',
  concat_ws(' ', a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid WHERE p.oid >= {own}
UNION ALL SELECT 'w', c.relname::text, 'sql', concat_ws(' ', f.proname::text,
  substring(d from ' EXECUTE (?:FUNCTION|PROCEDURE) (.*)$'), substring(d from ' WHEN (.*) EXECUTE '))
FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_proc f ON f.oid = tgfoid, pg_get_triggerdef(t.oid) d
WHERE NOT tgisinternal AND tgenabled <> 'D'
UNION ALL SELECT 'w', c.relname::text, 'sql', f.proname::text
FROM emptied e JOIN pg_class c ON c.oid = relid JOIN pg_proc f ON f.oid = func
UNION ALL SELECT 'w', p.relname::text, 'sql', c.relname::text
FROM pg_inherits i JOIN pg_class p ON p.oid = inhparent JOIN pg_class c ON c.oid = inhrelid
UNION ALL SELECT 'w', p.relname::text, 'sql', c.relname::text
FROM pg_constraint k JOIN pg_class p ON p.oid = confrelid JOIN pg_class c ON c.oid = conrelid
WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
UNION ALL SELECT CASE relkind WHEN 'v' THEN 'r' ELSE 'w' END, relname::text, 'sql', pg_get_viewdef(oid)
FROM pg_class WHERE relkind IN ('v', 'm') AND oid >= {own}
UNION ALL SELECT 'w', c.relname::text, 'sql', substring(pg_get_ruledef(r.oid) from ' TO (.*)$')
FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class WHERE r.rulename <> '_RETURN' AND r.oid >= {own}
UNION ALL SELECT 'w', c.relname::text, 'sql', pg_get_expr(adbin, adrelid)
FROM matter, pg_attrdef JOIN pg_class c ON c.oid = adrelid WHERE {adbin}
UNION ALL SELECT 'w', c.relname::text, 'sql', pg_get_constraintdef(k.oid)
FROM matter, pg_constraint k JOIN pg_class c ON c.oid = conrelid WHERE contype = 'c' AND {conbin}
UNION ALL SELECT 'w', c.relname::text, 'sql', concat_ws(' ', pg_get_expr(indexprs, indrelid), pg_get_expr(indpred, indrelid))
FROM matter, pg_index i JOIN pg_class c ON c.oid = indrelid WHERE ({indexprs} OR {indpred})
UNION ALL SELECT 'w', c.relname::text, 'sql', pg_get_expr(partexprs, partrelid)
FROM matter, pg_partitioned_table JOIN pg_class c ON c.oid = partrelid WHERE {partexprs}
UNION ALL SELECT 'r', t.typname::text, 'sql', expr FROM tested JOIN pg_type t ON t.oid = typ
UNION ALL SELECT 'r', t.typname::text, 'sql', p.typname::text
FROM made m JOIN pg_type t ON t.oid = m.oid JOIN pg_type p ON p.oid = part
UNION ALL SELECT DISTINCT 'w', c.relname::text, 'sql', t.typname::text
FROM made m JOIN pg_attribute ON atttypid = m.oid JOIN pg_class c ON c.oid = attrelid JOIN pg_type t ON t.oid = m.oid
WHERE relkind IN ('r', 'p', 'f') AND attnum > 0 AND NOT attisdropped
UNION ALL SELECT 'r', c.relname::text, 'sql',
  concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
FROM matter, pg_policy p JOIN pg_class c ON c.oid = polrelid WHERE ({polqual} OR {polwithcheck})
UNION ALL SELECT 'r', w, 'sql', f.proname::text FROM pg_event_trigger t JOIN pg_proc f ON f.oid = evtfoid,
  unnest(ARRAY[{ddl}]) w WHERE evtenabled <> 'D' AND evtevent <> 'login'
"""

_TREES: Final = ("adbin", "conbin", "indexprs", "indpred", "partexprs", "polqual", "polwithcheck", "typdefaultbin")

_KINDS: Final[dict[bytes, Kind]] = {b"f": "function", b"r": "read", b"w": "written"}
_SKIPPED: Final = frozenset(
    (BE_ROW_DESCRIPTION, BE_COMMAND_COMPLETE, BE_NOTICE_RESPONSE, BE_NOTIFICATION_RESPONSE, BE_PARAMETER_STATUS)
)


def question(server_version: bytes) -> bytes:
    """The Query message for a server that calls itself so."""
    digits = server_version.split(b".")[0].split()[:1]
    major = int(digits[0]) if digits and digits[0].isdigit() else 0
    body = "pg_get_function_sqlbody(p.oid)" if major >= _SQL_BODY_SINCE else "NULL"
    plainly = " SET LOCAL jit = off;" if major >= _JIT_SINCE else ""  # seconds of it for milliseconds of work
    calls = {tree: _CALLS.format(tree=tree, own=OWN_OID, digits=len(str(OWN_OID))) for tree in _TREES}
    sql = _QUESTION.format(
        timeout=ANSWER_MS,
        lock=LOCK_MS,
        plainly=plainly,
        body=body,
        own=OWN_OID,
        ddl=_listed(_DDL),
        functions=_listed(FUNCTIONS),
        **calls,
    )
    return message(FE_QUERY, " ".join(sql.split()).encode() + b"\0")


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


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
