"""What the settings client_tls_... mean, and how their faults are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgpool_core.cli.check import check
from pgpool_core.config.model import Config
from pgpool_core.config.tls import protocols_of
from pgpool_core.control.tls import client_tls
from pgpool_core.errors import ConfigError
from tests.certificates import RSA, Authority, Certificate


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Certificate:
    return authority.issue("pooler", key=RSA)


def config(own: Certificate, mode: str = "require", **settings: object) -> Config:
    given = {"client_tls_cert_file": str(own.cert_file), "client_tls_key_file": str(own.key_file), **settings}
    return Config.of(client_tls_sslmode=mode, **given)


def fault(own: Certificate, mode: str = "require", **settings: object) -> str:
    with pytest.raises(ConfigError) as found:
        client_tls(config(own, mode, **settings))
    assert found.value.key in str(found.value)
    return str(found.value)


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        ("secure", "1.2 1.3"),
        ("default", "1.2 1.3"),
        ("all", "1.0 1.1 1.2 1.3"),
        ("tlsv1.3", "1.3"),
        ("tlsv1.3, TLSv1.1", "1.1 1.3"),
        ("tlsv1.1:tlsv1.2", "1.1 1.2"),
        ("all,!tlsv1.0", "1.1 1.2 1.3"),
        ("!tlsv1.3", "1.0 1.1 1.2"),
        ("secure,!tlsv1.2", "1.3"),
    ],
)
def test_protocols(text: str, versions: str) -> None:
    assert protocols_of(text) == tuple(f"tlsv{version}" for version in versions.split())


@pytest.mark.parametrize("text", ["", "sslv3", "tlsv1.4", "secure,!secure", "tlsv1.2,,tlsv1.3", "!"])
def test_no_protocols(text: str) -> None:
    with pytest.raises(ValueError):
        protocols_of(text)
    with pytest.raises(ConfigError, match="client_tls_protocols"):
        Config.of(client_tls_protocols=text)


def test_switched_off_nothing_is_read(tmp_path: Path) -> None:
    assert client_tls(Config.of(client_tls_key_file=str(tmp_path / "nowhere"))).context is None


@pytest.mark.parametrize(
    "settings",
    [
        {"client_tls_ciphers": "normal", "client_tls_ecdhcurve": "auto"},
        {"client_tls_ciphers": "all", "client_tls_ecdhcurve": "none", "client_tls_dheparams": "none"},
        {"client_tls_ciphers": "HIGH:!ADH:@STRENGTH", "client_tls_ecdhcurve": "prime256v1"},
        {"client_tls13_ciphers": "TLS_AES_128_GCM_SHA256", "client_tls_ecdhcurve": "X25519:P-256"},
        {"client_tls_dheparams": "legacy", "client_tls_protocols": "all"},
    ],
)
def test_what_may_be_chosen(own: Certificate, settings: dict[str, object]) -> None:
    assert client_tls(config(own, **settings)).context is not None


def test_what_has_not_changed_is_kept(own: Certificate, authority: Authority) -> None:
    before = client_tls(config(own))
    assert client_tls(config(own), before) is before
    assert client_tls(config(own, client_tls_ca_file=str(authority.ca_file)), before) is not before
    assert client_tls(config(own, "disable"), before).context is None


@pytest.mark.parametrize("text", ["", "nothing here\n"])
def test_faults_name_setting_and_file(own: Certificate, authority: Authority, tmp_path: Path, text: str) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text(text)
    other = authority.issue("another")
    assert "which is not set" in fault(own, client_tls_key_file="")
    assert "which is not set" in fault(own, client_tls_cert_file="")
    assert "client_tls_ca_file, which is not set" in fault(own, "verify-ca")
    assert fault(own, client_tls_cert_file=str(empty)).startswith(f"client_tls_cert_file {empty}: no certificate in it")
    assert fault(own, client_tls_key_file=str(empty)).startswith(f"client_tls_key_file {empty}: no private key in it")
    assert fault(own, client_tls_key_file=str(other.key_file)) == (
        f"client_tls_key_file {other.key_file}: it is not the key of the certificate in client_tls_cert_file {own.cert_file}"
        " (client_tls_key_file)"
    )
    assert fault(own, "verify-full", client_tls_ca_file=str(empty)).startswith(f"client_tls_ca_file {empty}: no certif")
    gone = tmp_path / "gone.pem"
    assert f"client_tls_crl_file {gone}: cannot be read: No such file" in fault(own, client_tls_crl_file=str(gone))
    assert fault(own, client_tls_ca_file=str(empty)).startswith(f"client_tls_ca_file {empty}: no certif")
    verified = {"client_tls_ca_file": str(authority.ca_file), "client_tls_crl_file": str(empty)}
    assert f"client_tls_crl_file {empty}: no revocation list in it" in fault(own, "verify-full", **verified)
    assert "client_tls_ciphers NOSUCH: " in fault(own, client_tls_ciphers="NOSUCH")
    assert "client_tls13_ciphers NOSUCH: " in fault(own, client_tls13_ciphers="NOSUCH")
    assert "client_tls_ecdhcurve NOSUCH: " in fault(own, client_tls_ecdhcurve="NOSUCH")


def test_check_tells_them_with_their_line(own: Certificate, tmp_path: Path) -> None:
    file = tmp_path / "p.ini"
    lines = ["[databases]", "a = host=h", "[pgbouncer]", "listen_addr = 127.0.0.1", "auth_type = cert"]
    lines += ["client_tls_sslmode = require", f"client_tls_cert_file = {own.cert_file}", "client_tls_key_file = /none"]
    file.write_text("\n".join(lines))
    told = [str(problem) for problem in check(str(file)).errors]
    assert any("client_tls_key_file /none: cannot be read" in text and f"{file}:8" in text for text in told), told
    assert any("auth_type = cert needs client_tls_sslmode = verify-full" in text for text in told)


def test_check_warns_of_a_key_for_everybody(own: Certificate, tmp_path: Path) -> None:
    key = tmp_path / "open.key"
    key.write_bytes(own.key)
    file = tmp_path / "p.ini"
    text = f"client_tls_sslmode = prefer\nclient_tls_cert_file = {own.cert_file}\nclient_tls_key_file = {key}\n"
    file.write_text(f"[databases]\na = host=h\n[pgbouncer]\nlisten_addr = 127.0.0.1\n{text}")
    warning = f"every user of this machine may read {key}"
    key.chmod(0o644)
    assert any(warning in str(problem) for problem in check(str(file)).warnings)
    key.chmod(0o600)
    assert not any(warning in str(problem) for problem in check(str(file)).warnings)
