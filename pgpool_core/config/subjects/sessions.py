"""Settings of [pgbouncer]: what becomes of the state that a client leaves in its session."""

# ruff: noqa: RUF009 (`setting` declares an attrs field, as attrs.field does)

from __future__ import annotations

import attrs

from pgpool_core.config.declare import setting
from pgpool_core.config.leak_check import LeakCheck
from pgpool_core.config.units import Choice, Flag, Integer, Names, Seconds
from pgpool_core.config.words import SESSION_STATES, SessionState


@attrs.frozen(kw_only=True, slots=False)
class Sessions:
    """What becomes of the state that a client leaves in its session."""

    session_state: SessionState = setting(
        "auto",
        Choice(SESSION_STATES),
        "ours: what becomes of SET, LISTEN, temporary tables and their like in transaction and statement mode:"
        " auto (follows the client, or the client keeps its server), pin (it keeps its server), refuse, warn (the client is told),"
        " off (nothing is done)",
    )
    max_prepared_statements: int = setting(
        200,
        Integer(),
        "named prepared statements kept on a server in transaction and statement mode; 0 = they are not tracked",
    )
    max_pinned_connections: int = setting(
        0, Integer(), "ours: servers of a pool that clients may keep for their session state; 0 = all of them"
    )
    pin_notice: bool = setting(
        False, Flag(), "ours: tell a client, once, that it keeps its server, why, and what would be better"
    )
    function_check_period: float = setting(
        60.0,
        Seconds(),
        "ours: how often a database in use is asked again what its functions may do to a session, beside each time that a"
        " text changes one; 0 = never asked",
    )
    leak_check: int = setting(
        0,
        LeakCheck(),
        "ours: ask a server that a client gives back whether session state is left on it: off, always,"
        " sample:N (at every N-th return); what is found is logged, and the server closed",
    )
    application_name_add_host: bool = setting(
        False, Flag(), "let application_name begin as `NAME - HOST:PORT` of the client"
    )
    disable_pqexec: bool = setting(
        False, Flag(), "refuse the simple query protocol; the console has it all the same", reload=False
    )
    track_extra_parameters: tuple[str, ...] = setting(
        (),
        Names(),
        "with session_state = off or warn: settings beyond PostgreSQL's own that follow a client, where they are reported; else all do",
        reload=False,
    )
