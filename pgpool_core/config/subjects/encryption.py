"""Settings of [pgbouncer]: TLS with clients and towards servers."""

# ruff: noqa: RUF009 (`setting` declares an attrs field, as attrs.field does)

from __future__ import annotations

import attrs

from pgpool_core.config.declare import setting
from pgpool_core.config.tls import DHPARAMS, SSLMODES, Protocols
from pgpool_core.config.units import Choice, Text
from pgpool_core.config.words import DhParams, SslMode


@attrs.frozen(kw_only=True, slots=False)
class Encryption:
    """TLS with clients and towards servers."""

    client_tls_sslmode: SslMode = setting(
        "disable",
        Choice(SSLMODES),
        "TLS with clients: disable, allow and prefer (who asks for it), require, verify-ca and verify-full (and a certificate)",
    )
    client_tls_key_file: str = setting("", Text(), "private key for it, PEM")
    client_tls_cert_file: str = setting(
        "", Text(), "certificate that clients see, PEM, and those between it and a root"
    )
    client_tls_ca_file: str = setting("", Text(), "authorities whose certificates clients may show, PEM")
    client_tls_crl_file: str = setting("", Text(), "ours: what these have revoked, PEM; empty = nothing")
    client_tls_protocols: str = setting("secure", Protocols(), "versions: secure = default = tlsv1.2,tlsv1.3; all")
    client_tls_ciphers: str = setting(
        "default",
        Text(),
        "up to TLS 1.2, as OpenSSL writes them; default, secure, fast, normal = OpenSSL's choice; all",
    )
    client_tls13_ciphers: str = setting("", Text(), "suites of TLS 1.3, as OpenSSL writes them; empty = its choice")
    client_tls_ecdhcurve: str = setting(
        "auto", Text(), "curves for the key exchange; auto = OpenSSL's choice, none = no curves in TLS 1.2"
    )
    client_tls_dheparams: DhParams = setting(
        "auto", Choice(DHPARAMS), "Diffie-Hellman without curves in TLS 1.2: auto, none, or legacy (1024 bits)"
    )
    server_tls_sslmode: SslMode = setting(
        "prefer",
        Choice(SSLMODES),
        "TLS towards servers, as libpq's sslmode: disable, allow, prefer, require, verify-ca, verify-full",
    )
    server_tls_ca_file: str = setting(
        "",
        Text(),
        "authorities whose certificates servers may show, PEM; empty = those of the system, for verify-ca and -full",
    )
    server_tls_key_file: str = setting("", Text(), "private key of our certificate, PEM")
    server_tls_cert_file: str = setting("", Text(), "certificate that servers see, PEM")
    server_tls_crl_file: str = setting("", Text(), "ours: what the authorities have revoked, PEM; empty = nothing")
    server_tls_protocols: str = setting("secure", Protocols(), "versions: secure = default = tlsv1.2,tlsv1.3; all")
    server_tls_ciphers: str = setting(
        "default",
        Text(filled=True),
        "up to TLS 1.2, as OpenSSL writes them; default, secure, fast, normal = OpenSSL's choice; all",
    )
    server_tls13_ciphers: str = setting("", Text(), "suites of TLS 1.3, as OpenSSL writes them; empty = its choice")
