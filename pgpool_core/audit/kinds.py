"""The kinds of session state that the audit plants: how each is made, how it is seen again, how it is taken away.

In the texts `{name}` is a name of this kind and run only, `{number}` a number of the same sort, `{role}` another role.
Source: PostgreSQL docs: SET, SET ROLE, CREATE TABLE, DECLARE, PREPARE, LISTEN, LOAD, Advisory Lock Functions, Sequence
Manipulation Functions.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

Way = Literal["query", "named", "unnamed", "listen", "cut"]


@attrs.frozen(kw_only=True)
class Kind:
    """One kind of state.

    Attributes:
        about: its name in the report.
        plant: the text that makes it.
        ask: a query whose one value is `seen` in the session that has the state, and only there; of statements of the
            protocol the name.
        undo: takes it away in the session that has it.
        setup, teardown: what it needs in the database, and how that goes away again.
        needs: a query whose one value becomes `{role}`; no value means that the kind cannot be tested.
        lasts: whether its session still has it afterwards; a control that must not be seen by anybody is False.
        way: how it is planted and seen: by simple queries unless it is about the protocol itself.
    """

    about: str
    plant: str
    ask: str
    seen: str
    undo: str = ""
    setup: str = ""
    teardown: str = ""
    needs: str = ""
    lasts: bool = True
    way: Way = "query"

    def with_words(self, **words: str) -> Kind:
        """The kind with its texts filled in."""
        filled = {
            field.name: getattr(self, field.name).format(**words)
            for field in attrs.fields(Kind)
            if field.name in ("plant", "ask", "seen", "undo", "setup", "teardown")
        }
        return attrs.evolve(self, **filled)


_SETTING: Final = "SELECT current_setting('{setting}', true)"
_MY_TEMP: Final = "SELECT count(*) FROM pg_class WHERE relname = '{name}' AND relnamespace = pg_my_temp_schema()"
_MY_LOCK: Final = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {number} AND pid = pg_backend_pid()"
)
_ANOTHER_ROLE: Final = (
    "SELECT quote_ident(rolname) FROM pg_roles WHERE rolname <> session_user AND NOT rolsuper"
    " AND pg_has_role(session_user, oid, 'member') ORDER BY rolname LIMIT 1"
)
_ANY_ROLE: Final = (
    "SELECT quote_ident(a.rolname) FROM pg_roles a, pg_roles me WHERE me.rolname = session_user AND me.rolsuper"
    " AND a.rolname <> session_user AND NOT a.rolsuper ORDER BY a.rolname LIMIT 1"
)


def _setting(about: str, setting: str, plant: str, seen: str, **more: str) -> Kind:
    ask = _SETTING.replace("{setting}", setting)
    return Kind(about=about, plant=plant, ask=ask, seen=seen, undo=f"RESET {setting}", **more)  # type: ignore[arg-type]


KINDS: Final = (
    _setting("setting that PostgreSQL reports", "TimeZone", "SET TimeZone = 'Pacific/Chatham'", "Pacific/Chatham"),
    _setting("setting that it does not report", "work_mem", "SET work_mem = '4242kB'", "4242kB"),
    _setting("setting with a list", "search_path", 'SET search_path = pg_catalog, "{name}"', "pg_catalog, {name}"),
    _setting("custom setting", "pgpool_audit.{name}", "SET pgpool_audit.{name} = 'it''s'", "it's"),
    _setting("set_config()", "pgpool_audit.{name}", "SELECT set_config('pgpool_audit.{name}', 'set', false)", "set"),
    _setting(
        "setting in a DO block",
        "maintenance_work_mem",
        "DO $$BEGIN PERFORM set_config('maintenance_work_mem', '4343kB', false); END$$",
        "4343kB",
    ),
    _setting(
        "setting in a function",
        "cursor_tuple_fraction",
        "SELECT {name}()",
        "0.4242",
        setup="CREATE FUNCTION {name}() RETURNS text LANGUAGE sql AS"
        " $$SELECT set_config('cursor_tuple_fraction', '0.4242', false)$$",
        teardown="DROP FUNCTION IF EXISTS {name}()",
    ),
    Kind(
        about="SET LOCAL (a control: ends with its transaction)",
        plant="BEGIN; SET LOCAL lock_timeout = '4141ms'; COMMIT",
        ask="SELECT current_setting('lock_timeout')",
        seen="4141ms",
        undo="RESET lock_timeout",
        lasts=False,
    ),
    Kind(
        about="role",
        plant="SET ROLE {role}",
        ask="SELECT quote_ident(current_user)",
        seen="{role}",
        undo="RESET ROLE",
        needs=_ANOTHER_ROLE,
    ),
    Kind(
        about="session authorization",
        plant="SET SESSION AUTHORIZATION {role}",
        ask="SELECT quote_ident(session_user)",
        seen="{role}",
        undo="RESET SESSION AUTHORIZATION",
        needs=_ANY_ROLE,
    ),
    Kind(
        about="temporary table",
        plant="CREATE TEMPORARY TABLE {name} (a integer)",
        ask=_MY_TEMP,
        seen="1",
        undo="DROP TABLE pg_temp.{name}",
    ),
    Kind(
        about="temporary view",
        plant="CREATE TEMPORARY VIEW {name} AS SELECT 1 AS a",
        ask=_MY_TEMP,
        seen="1",
        undo="DROP VIEW pg_temp.{name}",
    ),
    Kind(
        about="cursor WITH HOLD",
        plant="DECLARE {name} SCROLL CURSOR WITH HOLD FOR SELECT {number}",
        ask="FETCH ABSOLUTE 1 FROM {name}",
        seen="{number}",
        undo="CLOSE {name}",
    ),
    Kind(
        about="PREPARE",
        plant="PREPARE {name} AS SELECT {number}",
        ask="EXECUTE {name}",
        seen="{number}",
        undo="DEALLOCATE {name}",
    ),
    Kind(
        about="named statement of the protocol",
        plant="SELECT {number}",
        ask="{name}",
        seen="{number}",
        undo="DEALLOCATE {name}",
        way="named",
    ),
    Kind(
        about="unnamed statement of the protocol",
        plant="SELECT {number}",
        ask="{name}",
        seen="{number}",
        way="unnamed",
    ),
    Kind(
        about="LISTEN",
        plant="LISTEN {name}",
        ask="SELECT count(*) FROM pg_listening_channels() c WHERE c = '{name}'",
        seen="1",
        undo="UNLISTEN {name}",
        way="listen",
    ),
    Kind(
        about="session advisory lock",
        plant="SELECT pg_advisory_lock({number})",
        ask=_MY_LOCK,
        seen="1",
        undo="SELECT pg_advisory_unlock({number})",
    ),
    Kind(
        about="shared advisory lock",
        plant="SELECT pg_advisory_lock_shared({number})",
        ask=_MY_LOCK,
        seen="1",
        undo="SELECT pg_advisory_unlock_shared({number})",
    ),
    Kind(
        about="advisory lock in a DO block",
        plant="DO $$BEGIN PERFORM pg_advisory_lock({number}); END$$",
        ask=_MY_LOCK,
        seen="1",
        undo="SELECT pg_advisory_unlock({number})",
    ),
    Kind(
        about="currval()",
        plant="SELECT nextval('{name}')",
        ask="SELECT currval('{name}')",
        seen="{number}",
        setup="CREATE SEQUENCE {name} START {number}",
        teardown="DROP SEQUENCE IF EXISTS {name}",
    ),
    Kind(
        about="lastval() after an INSERT",
        plant="INSERT INTO {name} DEFAULT VALUES",
        ask="SELECT lastval()",
        seen="{number}",
        setup="CREATE TABLE {name} (id bigint GENERATED BY DEFAULT AS IDENTITY (START {number}))",
        teardown="DROP TABLE IF EXISTS {name}",
    ),
    Kind(
        about="LOAD",
        plant="LOAD 'auto_explain'",
        ask="SELECT count(*) FROM pg_settings WHERE name = 'auto_explain.log_analyze'",
        seen="1",
    ),
    Kind(
        about="open transaction of a client that is cut off",
        plant="BEGIN; SELECT pg_advisory_xact_lock({number})",
        ask=_MY_LOCK,
        seen="1",
        undo="ROLLBACK",
        lasts=False,
        way="cut",
    ),
)
