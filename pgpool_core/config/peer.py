"""An entry of [peers] as a value."""

from __future__ import annotations

import attrs

from pgpool_core.config.declare import checked, setting
from pgpool_core.config.problems import Place
from pgpool_core.config.units import Text, decimal
from pgpool_core.errors import ConfigError


@attrs.frozen(kw_only=True)
class PeerConfig:
    """One line of [peers]: another pooler process, to which cancel requests that are meant for it are passed on.

    Raises:
        ConfigError: a value is not acceptable; carries every one.
    """

    host: str | None = setting(None, Text(filled=True), "where it listens: address, name, or folder of its unix socket")
    port: int = setting(6432, decimal(1, 65535), "port of the peer, also part of its socket's name")
    pool_size: int | None = setting(
        None, decimal(), "cancel requests on their way to it at one time; else default_pool_size"
    )

    def __attrs_post_init__(self) -> None:
        if problems := list(checked(self, Place())):
            raise ConfigError(problems)
