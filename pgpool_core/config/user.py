"""An entry of [users] as a value."""

# ruff: noqa: RUF009 (`setting` declares an attrs field, as attrs.field does)

from __future__ import annotations

import attrs

from pgpool_core.config.declare import checked, setting
from pgpool_core.config.names import MAX_PASSWORD_LEN
from pgpool_core.config.passwords import CommandLine, Password, PasswordText
from pgpool_core.config.problems import Place
from pgpool_core.config.units import Choice, Seconds, decimal
from pgpool_core.config.words import POOL_MODES, SESSION_STATES, PoolMode, SessionState
from pgpool_core.errors import ConfigError


@attrs.frozen(kw_only=True)
class UserConfig:
    """One line of [users]: what is special about a user. It goes before [databases], which goes before [pgbouncer].

    Raises:
        ConfigError: a value is not acceptable; carries every one.
    """

    password: Password | None = setting(
        None,
        PasswordText(max_len=MAX_PASSWORD_LEN, filled=True, secret=True),
        "ours here: password or secret of this user at servers, where the entry of [databases] has none; else auth_file",
    )
    password_command: str | None = setting(
        None, CommandLine(), "ours: what this command prints is that password; run for each server connection"
    )
    pool_mode: PoolMode | None = setting(None, Choice(POOL_MODES), "instead of the database's or the global one")
    pool_size: int | None = setting(None, decimal(), "instead of the database's or default_pool_size")
    min_pool_size: int | None = setting(None, decimal(), "ours here: instead of the database's or the global one")
    server_lifetime: float | None = setting(None, Seconds(), "ours here: instead of the database's or the global one")
    session_state: SessionState | None = setting(
        None, Choice(SESSION_STATES), "ours: instead of the database's or the global one"
    )
    reserve_pool_size: int | None = setting(None, decimal(), "instead of the database's or the global one")
    max_user_connections: int | None = setting(None, decimal(), "instead of the global one")
    max_user_client_connections: int | None = setting(None, decimal(), "instead of the global one")
    query_wait_timeout: float | None = setting(
        None, Seconds(optional=True), "instead of the database's or the global one; -1 as if unset"
    )
    query_timeout: float | None = setting(None, Seconds(), "instead of the database's or the global one")
    transaction_timeout: float | None = setting(None, Seconds(), "instead of the database's or the global one")
    idle_transaction_timeout: float | None = setting(None, Seconds(), "instead of the database's or the global one")
    client_idle_timeout: float | None = setting(None, Seconds(), "instead of the database's or the global one")

    def __attrs_post_init__(self) -> None:
        if problems := list(checked(self, Place())):
            raise ConfigError(problems)
