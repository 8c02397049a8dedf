"""What a handshake comes to is what the settings of client TLS allow, as SHOW CLIENTS tells it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.certificates import RSA, Authority
from tests.conftest import PoolerFactory
from tests.console import Console


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"client_tls_protocols": "tlsv1.2", "client_tls_ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"},
            "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256/",
        ),
        ({"client_tls13_ciphers": "TLS_CHACHA20_POLY1305_SHA256"}, "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256/"),
        ({"client_tls_ecdhcurve": "secp384r1"}, "/ECDH=secp384r1"),
    ],
    ids=["client_tls_ciphers", "client_tls13_ciphers", "client_tls_ecdhcurve"],
)
def test_ciphers_and_curves(pooler: PoolerFactory, tmp_path: Path, settings: dict[str, str], told: str) -> None:
    assert told in tls_of_a_client(pooler, tmp_path, **settings)


@pytest.mark.parametrize(("dheparams", "finite"), [("auto", True), ("none", False)])
def test_without_curves_a_finite_field_is_used_where_it_may_be(
    pooler: PoolerFactory, tmp_path: Path, dheparams: str, finite: bool
) -> None:
    told = tls_of_a_client(
        *(pooler, tmp_path, RSA),
        client_tls_protocols="tlsv1.2",
        client_tls_ciphers="ALL",
        client_tls_ecdhcurve="none",
        client_tls_dheparams=dheparams,
    )
    assert told.startswith("TLSv1.2/DHE-RSA-") == finite


def tls_of_a_client(pooler: PoolerFactory, folder: Path, key: tuple[str, ...] | None = None, **settings: str) -> str:
    """The column `tls` of a client that takes what libpq takes."""
    authority = Authority(folder / "authority")
    made = authority.issue("pooler", key=key) if key else authority.issue("pooler")
    process = pooler(
        client_tls_sslmode="allow", client_tls_cert_file=made.cert_file, client_tls_key_file=made.key_file, **settings
    )
    with psycopg.connect(process.url("app", "app") + "?sslmode=require"), Console(process) as console:
        (told,) = (row["tls"] for row in console.rows("SHOW CLIENTS") if row["database"] == "app")
        return str(told)
