"""TLS of the configuration: reads the files that it names and makes of them what the engine needs.

Source: PgBouncer docs, "TLS settings".
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import attrs

from pgpool_core.config.model import Config
from pgpool_core.config.tls import protocols_of
from pgpool_core.errors import ConfigError, ConfigProblem, TlsError
from pgpool_core.tls.face import Context

VERIFYING: Final = ("verify-ca", "verify-full")
LIBRARYS_CIPHERS: Final = ("default", "secure", "fast", "normal")
"""Values of the cipher settings that mean what OpenSSL has chosen."""

NOTHING: Final = b"\n"
"""What an empty file holds, to be refused as any other without what it is named for: b"" means that none is named."""

_SETTINGS: Final = {
    "certificate": "cert_file",
    "key": "key_file",
    "pair": "key_file",
    "ca": "ca_file",
    "crl": "crl_file",
    "protocols": "protocols",
    "ciphers": "ciphers",
    "suites": "tls13_ciphers",
    "groups": "ecdhcurve",
    "memory": "sslmode",
}


@attrs.frozen
class ClientTls:
    """What clients are met with."""

    context: Context | None  # None: no TLS
    made_of: bytes = attrs.field(repr=False)  # a hash of all settings and files


def client_tls(config: Config, before: ClientTls | None = None) -> ClientTls:
    """Read what the settings client_tls_... name.

    Args:
        before: what was made the last time; kept where nothing has changed, so that tickets of clients stay good.

    Raises:
        ConfigError: a file cannot be read or used, or a value is not known to OpenSSL; names the setting and the file.
    """
    mode = config.client_tls_sslmode
    if mode == "disable":
        return ClientTls(None, b"")
    for key in ("client_tls_key_file", "client_tls_cert_file"):
        if not getattr(config, key):
            raise _error(f"client_tls_sslmode = {mode} needs {key}, which is not set ({key})", key)
    if mode in VERIFYING and not config.client_tls_ca_file:
        text = f"client_tls_sslmode = {mode} needs client_tls_ca_file, which is not set (client_tls_ca_file)"
        raise _error(text, "client_tls_ca_file")
    files: dict[str, Any] = {
        part: _read(config, f"client_tls_{_SETTINGS[part]}") for part in ("certificate", "key", "ca", "crl")
    }
    ciphers, curve = config.client_tls_ciphers, config.client_tls_ecdhcurve
    options: dict[str, Any] = {
        "peer": "required" if mode in VERIFYING else "asked" if files["ca"] else "ignored",
        "protocols": protocols_of(config.client_tls_protocols),
        "ciphers": "" if ciphers in LIBRARYS_CIPHERS else "ALL:!aNULL:!eNULL" if ciphers == "all" else ciphers,
        "suites": config.client_tls13_ciphers,
        "groups": "" if curve in ("auto", "none") else curve,
        "dhparams": config.client_tls_dheparams,
        "ecdhe": curve != "none",
    }
    made_of = hashlib.sha256(repr((files, options)).encode()).digest()
    if before is not None and before.made_of == made_of:
        return before
    try:
        return ClientTls(Context(role="server", **files, **options), made_of)
    except TlsError as error:
        key = "client_tls13_ciphers" if error.part == "suites" else f"client_tls_{_SETTINGS[error.part]}"
        value = getattr(config, key)
        why = f"{error} in client_tls_cert_file {config.client_tls_cert_file}" if error.part == "pair" else str(error)
        raise _error(f"{key} {value}: {why} ({key})" if value else f"{key}: {why} ({key})", key) from None


def _read(config: Config, key: str) -> bytes:
    path: str = getattr(config, key)
    if not path:
        return b""
    try:
        with open(path, "rb") as file:
            return file.read() or NOTHING
    except OSError as error:
        raise _error(f"{key} {path}: cannot be read: {error.strerror or error} ({key})", key) from error


def _error(text: str, key: str) -> ConfigError:
    return ConfigError([ConfigProblem(text, section="pgbouncer", key=key)])
