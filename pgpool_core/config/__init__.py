"""Configuration: read, checked, compared. Knows PgBouncer's file format and nothing of sockets or pools."""

from pgpool_core.config.diff import Reloaded, reload_config
from pgpool_core.config.dsn import parse_dsn
from pgpool_core.config.load import load_config, parse_config
from pgpool_core.config.model import Config, DatabaseConfig, PeerConfig, UserConfig
from pgpool_core.config.passwords import PasswordFile, PasswordWanted
from pgpool_core.config.settings import SETTINGS, Setting, SettingRow, describe
from pgpool_core.config.words import AUTH_TYPES, POOL_MODES, SESSION_STATES
from pgpool_core.errors import ConfigError, ConfigProblem

__all__ = [
    "AUTH_TYPES",
    "POOL_MODES",
    "SESSION_STATES",
    "SETTINGS",
    "Config",
    "ConfigError",
    "ConfigProblem",
    "DatabaseConfig",
    "PasswordFile",
    "PasswordWanted",
    "PeerConfig",
    "Reloaded",
    "Setting",
    "SettingRow",
    "UserConfig",
    "describe",
    "load_config",
    "parse_config",
    "parse_dsn",
    "reload_config",
]
