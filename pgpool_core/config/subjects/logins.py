"""Settings of [pgbouncer]: who may log in, how that is proved, and what they may bring along."""

# ruff: noqa: RUF009 (`setting` declares an attrs field, as attrs.field does)

from __future__ import annotations

from typing import Final

import attrs

from pgpool_core.config.declare import setting
from pgpool_core.config.names import MAX_DATABASE_LEN, MAX_USER_LEN
from pgpool_core.config.units import Choice, Flag, Integer, Names, Seconds, Text
from pgpool_core.config.words import AUTH_TYPES, AuthType

AUTH_QUERY: Final = (
    "SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now() THEN NULL ELSE rolpassword END"
    " FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin"
)
"""PgBouncer's, and it means the same whatever the owner of a database has put on its search_path: a superuser runs it."""


@attrs.frozen(kw_only=True, slots=False)
class Logins:
    """Who may log in, how that is proved, and what they may bring along."""

    auth_type: AuthType = setting(
        "md5",
        Choice(AUTH_TYPES, not_built=("pam", "peer")),
        "any, trust, plain, md5, scram-sha-256, cert (client certificate), ldap, or hba (as auth_hba_file says): how clients prove who they are",
    )
    auth_file: str | None = setting(None, Text(optional=True), 'file of "user" "secret" lines')
    auth_hba_file: str = setting("", Text(), "rules for auth_type = hba, as in pg_hba.conf")
    auth_ident_file: str = setting("", Text(), "maps for `peer` and `cert` rules, as in pg_ident.conf")
    auth_ldap_options: str = setting(
        "", Text(), "where and how auth_type = ldap has passwords checked: options as on an ldap line of pg_hba.conf"
    )
    max_ldap_logins: int = setting(
        16, Integer(1, 1000), "ours: so many passwords are checked by LDAP at one time; further logins wait"
    )
    auth_user: str = setting(
        "", Text(max_len=MAX_USER_LEN), "runs auth_query for users who are not in auth_file; empty = nobody does"
    )
    auth_query: str = setting(AUTH_QUERY, Text(), "SQL with one parameter that gives name and secret of a user")
    auth_dbname: str = setting(
        "",
        Text(max_len=MAX_DATABASE_LEN),
        "entry of [databases] where auth_query runs; empty = that of the client's database",
    )
    auth_query_ttl: float = setting(
        10.0, Seconds(), "ours: how long an answer of auth_query is remembered; 0 = asked at every login, as PgBouncer"
    )
    allow_open_auth: bool = setting(
        False,
        Flag(),
        "ours: start although auth_type any or trust lets in whoever reaches listen_addr, or plain or ldap lets passwords come unencrypted; or although lines of auth_hba_file do",
    )
    auth_failure_delay: float = setting(
        1.0,
        Seconds(),
        "ours: pause between answers to failed logins from one address, once there have been 10 within a minute; 0 = none",
    )
    scram_iterations: int = setting(
        4096, Integer(1), "rounds of the SCRAM keys that are made of plain passwords in auth_file"
    )
    admin_users: tuple[str, ...] = setting((), Names(), "users who may run every console command")
    stats_users: tuple[str, ...] = setting((), Names(), "users who may run SHOW on the console")
    max_logins: int = setting(
        512,
        Integer(),
        "ours: clients that prove who they are at one time; the next ones wait for their turn, a second at most for each; 0 = any number",
    )
    client_login_timeout: float = setting(60.0, Seconds(), "time for a client to log in; 0 = any")
    login_notify_message: str = setting("", Text(max_len=4096), "notice that clients get at login; empty = none")
    ignore_startup_parameters: tuple[str, ...] = setting(
        (), Names(), "startup parameters that a client may send in vain; others that are not known are refused"
    )
