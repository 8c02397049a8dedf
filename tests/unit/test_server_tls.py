"""What entries want of TLS to their servers, without one: wishes, contradictions, the order of tries, a link's socket."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from pgpool_core.client.secure import TlsSocket
from pgpool_core.config import Config, ConfigError, DatabaseConfig, parse_config, parse_dsn
from pgpool_core.control.server_tls import TlsWish, make_contexts, tls_wish, wish_problems, wishes_of
from pgpool_core.tls.face import Context, Session
from tests.certificates import Authority


def wish(line: str, **settings: object) -> TlsWish:
    text = "\n".join(f"{name} = {value}" for name, value in settings.items())
    config = parse_config(f"[databases]\napp = {line}\n[pgbouncer]\n{text}\n")
    return tls_wish(config, config.databases["app"])


def test_keys_of_an_entry_go_before_the_settings() -> None:
    assert wish("host=h") == TlsWish(mode="prefer")
    settings = {
        "server_tls_sslmode": "verify-ca",
        "server_tls_ca_file": "/ca",
        "server_tls_cert_file": "/cert",
        "server_tls_key_file": "/key",
        "server_tls_protocols": "tlsv1.2",
    }
    assert wish("host=h", **settings) == TlsWish(
        mode="verify-ca", ca_file="/ca", cert_file="/cert", key_file="/key", protocols=("tlsv1.2",)
    )
    keys = "sslmode=require sslrootcert=/a sslcert=/b sslkey=/c sslcrl=/d sslnegotiation=direct sslsni=0 channel_binding=require"
    assert wish(f"host=h {keys} ssl_min_protocol_version=TLSv1.3", **settings) == TlsWish(
        mode="require",
        ca_file="/a",
        cert_file="/b",
        key_file="/c",
        crl_file="/d",
        direct=True,
        sni=False,
        channel_binding="require",
        protocols=("tlsv1.3",),
    )


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", TlsWish(mode="prefer")),
        ("sslmode=verify-full&sslrootcert=/ca", TlsWish(mode="verify-full", ca_file="/ca")),
        ("sslrootcert=system", TlsWish(mode="verify-full", ca_file="system")),
        ("ssl=true", TlsWish(mode="require")),
        ("sslmode=disable", TlsWish(mode="disable")),
        ("ssl_max_protocol_version=TLSv1.2", TlsWish(mode="prefer", protocols=("tlsv1.2",))),
        (
            "ssl_min_protocol_version=TLSv1",
            TlsWish(mode="prefer", protocols=("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3")),
        ),
    ],
)
def test_a_url_says_it_as_libpq_reads_it(parameters: str, expected: TlsWish) -> None:
    assert tls_wish(Config(), parse_dsn(f"postgres://u@h/d?{parameters}")) == expected


@pytest.mark.parametrize("parameter", ["sslpassword=x", "sslcertmode=require", "sslmode=most", "channel_binding=maybe"])
def test_what_cannot_be_obeyed_is_refused(parameter: str) -> None:
    with pytest.raises(ConfigError):
        parse_dsn(f"postgres://u@h/d?{parameter}")


@pytest.mark.parametrize(
    ("mode", "steps"),
    [
        ("disable", (False,)),
        ("allow", (False, True)),
        ("prefer", (True, False)),
        ("require", (True,)),
        ("verify-ca", (True,)),
        ("verify-full", (True,)),
    ],
)
def test_the_order_of_tries(mode: str, steps: tuple[bool, ...]) -> None:
    assert TlsWish(mode=mode).steps(is_unix=False) == steps
    assert TlsWish(mode=mode).steps(is_unix=True) == (False,)


def test_entries_that_want_the_same_share_a_context(tmp_path: Path) -> None:
    config = Config.of(databases={"a": {"host": "h"}, "b": {"host": "i"}, "c": {"host": "h", "sslmode": "disable"}})
    assert len(make_contexts(wishes_of(config))) == 1


def test_each_file_that_cannot_be_used_is_told_with_its_entry(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("nothing")
    databases = {
        "a": DatabaseConfig(host="h", sslmode="verify-ca", sslrootcert=str(tmp_path / "none")),
        "b": DatabaseConfig(host="h", sslcert=str(tmp_path / "missing"), sslkey="/x"),
    }
    with pytest.raises(ConfigError) as caught:
        make_contexts(wishes_of(Config(databases=databases)))
    texts = sorted(problem.text for problem in caught.value.problems)
    assert texts[0].startswith(f'database "a": {tmp_path}/none: ')
    assert texts[1] == f'database "b": {tmp_path}/missing cannot be read: No such file or directory (sslcert)'


def test_a_key_of_another_certificate_is_told_with_both_files_and_how_they_are_set(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours, others = authority.issue("pooler"), authority.issue("somebody")
    pair = {"sslcert": str(ours.cert_file), "sslkey": str(others.key_file)}
    settings = {"server_tls_cert_file": pair["sslcert"], "server_tls_key_file": pair["sslkey"]}
    told = {}
    for name, entry, more in (("own", pair, {}), ("set", {}, settings), ("half", {"sslkey": pair["sslkey"]}, settings)):
        config = Config.of(databases={name: {"host": "h", "sslmode": "require", **entry}}, **more)
        with pytest.raises(ConfigError) as caught:
            make_contexts(wishes_of(config))
        told[name] = str(caught.value).replace(str(others.key_file), "KEY").replace(str(ours.cert_file), "CERT")
    why = "KEY: it is not the key of the certificate in"
    assert told == {
        "own": f'database "own": {why} sslcert CERT (sslkey)',
        "set": f'database "set": {why} server_tls_cert_file CERT (server_tls_key_file)',
        "half": f'database "half": {why} server_tls_cert_file CERT (sslkey)',
    }


def test_a_links_socket_takes_and_gives_everything_however_little_the_kernel_takes(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate = authority.issue("localhost")
    theirs = Session(Context(role="server", certificate=certificate.cert, key=certificate.key))
    ours = Session(Context(role="client"))
    near, far = socket.socketpair()
    with near, far:
        ours.begin()
        while not (ours.established and theirs.established):
            theirs.receive(ours.take())
            ours.receive(theirs.take())
        for side in (near, far):
            side.setblocking(False)
            side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wire = TlsSocket(near, ours)
        data = bytes(range(256)) * 2000
        left, arrived, blocked = memoryview(data), b"", 0
        while len(arrived) < len(data):
            try:
                left = left[wire.send(left, 0) :] if left else left
            except BlockingIOError:
                blocked += 1
            try:
                arrived += theirs.receive(far.recv(1000))
            except BlockingIOError:
                assert left
        assert (arrived, len(left)) == (data, 0)
        assert blocked
        window, back = memoryview(bytearray(65536)), b""
        cipher = memoryview(theirs.send(data))
        while len(back) < len(data):
            with contextlib.suppress(BlockingIOError):
                cipher = cipher[far.send(cipher[:700]) :] if cipher else cipher
            try:
                back += window[: wire.recv_into(window)]
            except BlockingIOError:
                assert cipher
        assert back == data


def test_a_file_that_holds_nothing_is_not_passed_over(tmp_path: Path) -> None:
    """Whoever writes revocation lists may have failed; nobody would be revoked."""
    authority = Authority(tmp_path / "authority")
    own = authority.issue("pooler")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    verified = f"host=h sslmode=verify-full sslrootcert={authority.ca_file}"
    for line, said in (
        (f"{verified} sslcrl={empty}", "no revocation list in it (sslcrl)"),
        (f"host=h sslmode=verify-full sslrootcert={empty}", "no certificate in it (sslrootcert)"),
        (f"{verified} sslcert={empty} sslkey={empty}", "no certificate in it (sslcert)"),
        (f"{verified} sslcert={own.cert_file} sslkey={empty}", "no private key in it (sslkey)"),
    ):
        with pytest.raises(ConfigError) as found:
            make_contexts({wish(line): "app"})
        assert str(found.value) == f'database "app": {empty}: {said}'


def test_half_a_certificate_is_told_by_its_setting() -> None:
    for line, settings, key in (
        ("host=h sslcert=/c", {}, "sslcert"),
        ("host=h sslkey=/k", {}, "sslkey"),
        ("host=h", {"server_tls_cert_file": "/c"}, "server_tls_cert_file"),
        ("host=h", {"server_tls_key_file": "/k"}, "server_tls_key_file"),
    ):
        (problem,) = wish_problems({wish(line, **settings): "app"})
        assert str(problem) == f'database "app": a client certificate needs both its file and that of its key ({key})'
