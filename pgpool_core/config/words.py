"""The words that settings with a choice take, as types and as values."""

from __future__ import annotations

from typing import Final, Literal

AuthType = Literal["any", "trust", "plain", "md5", "scram-sha-256", "hba", "cert", "ldap"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
SslNegotiation = Literal["postgres", "direct"]
ChannelBinding = Literal["disable", "prefer", "require"]
PoolMode = Literal["session", "transaction", "statement"]
SessionState = Literal["off", "auto", "pin", "refuse", "warn"]
DhParams = Literal["none", "auto", "legacy"]
IoBackend = Literal["auto", "epoll", "io_uring"]
LoadBalance = Literal["round-robin", "disable"]

AUTH_TYPES: Final = ("any", "trust", "plain", "md5", "scram-sha-256", "hba", "cert", "ldap")
POOL_MODES: Final = ("session", "transaction", "statement")
SESSION_STATES: Final = ("off", "auto", "pin", "refuse", "warn")
"""Like AUTH_TYPES in the order of the engine's numbers."""
SYSLOG_FACILITIES: Final = ("auth", "authpriv", "daemon", "user", *(f"local{number}" for number in range(8)))
TLS_WORDS: Final = ("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
