"""One setting changed at run time: SET on the console."""

from __future__ import annotations

from typing import Any

import attrs

from pgpool_core.config.entry import check_not_built
from pgpool_core.config.model import Config
from pgpool_core.config.not_built import NOT_BUILT
from pgpool_core.config.problems import Place, invalid_value, not_supported_value, unknown_parameter
from pgpool_core.config.settings import SETTINGS
from pgpool_core.config.units import NotBuilt
from pgpool_core.errors import ConfigError


def with_setting(config: Config, key: str, text: str) -> Config:
    """`config` with another value of one setting of [pgbouncer], written as in a file.

    Raises:
        ConfigError: there is no such setting, the value is not acceptable, or a restart is needed.
    """
    place = Place(section="pgbouncer")
    if key not in SETTINGS:
        if key not in NOT_BUILT:
            raise ConfigError([unknown_parameter(place, key)])
        if problems := check_not_built(place, key, text, NOT_BUILT[key]):
            raise ConfigError(problems)
        return config
    setting = SETTINGS[key]
    if not setting.reloadable:
        raise ConfigError([place.problem(f"setting {key} cannot be changed without a restart", key)])
    try:
        value = setting.kind.parse(text)
    except NotBuilt as error:
        raise ConfigError([not_supported_value(place, key, text, setting.kind)]) from error
    except ValueError as error:
        raise ConfigError([invalid_value(place, key, text, setting.kind)]) from error
    changed: dict[str, Any] = {key: value}
    return attrs.evolve(config, **changed)
