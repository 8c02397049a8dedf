"""TLS without sockets, against Python's `ssl` on both sides: handshakes, records cut anywhere, certificates, what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from pgpool_core.errors import TlsError
from pgpool_core.tls.face import Context, Session
from tests.certificates import ED25519, RSA, Authority, Certificate

HOST = "db.example.com"


@attrs.frozen
class Papers:
    """One authority, and what the tests need of it."""

    authority: Authority
    server: Certificate
    alice: Certificate
    expired: Certificate
    stranger: Certificate

    def server_context(self, **more: Any) -> Context:
        return Context(role="server", certificate=self.server.cert, key=self.server.key, **more)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("papers")
    authority = Authority(folder / "ours")
    return Papers(
        authority,
        authority.issue("the server", alternatives=[f"DNS:{HOST}", "IP:127.0.0.1"]),
        authority.issue("alice", alternatives=["email:alice@example.com", "DNS:alice.example.com", "IP:10.0.0.1"]),
        authority.issue("late", days=-1),
        Authority(folder / "other", "other root").issue("alice"),
    )


class Oracle:
    """Python's ssl as the other side."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, session: ssl.SSLSession | None = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        host = None if server_side else HOST
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_side, server_hostname=host, session=session)
        self.done = False

    def step(self) -> None:
        if not self.done:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.ssl.do_handshake()
                self.done = True

    def read(self) -> bytes:
        found = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := self.ssl.read(65536):
                found += data
        return found

    def send(self, data: bytes) -> bytes:
        self.ssl.write(data)
        return self.outgoing.read()


def client_oracle(papers: Papers, change: Callable[[ssl.SSLContext], None] = lambda _: None, **more: Any) -> Oracle:
    context = ssl.create_default_context(cadata=papers.authority.ca.decode())
    change(context)
    return Oracle(context, server_side=False, **more)


def server_oracle(papers: Papers, change: Callable[[ssl.SSLContext], None] = lambda _: None) -> Oracle:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.server.cert_file, papers.server.key_file)
    change(context)
    return Oracle(context, server_side=True)


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size or len(data) or 1):
        yield data[at : at + size] if size else data


def shake(ours: Session, theirs: Oracle, *, piece: int = 0) -> None:
    """Both handshakes to their ends; what goes to us is cut into pieces of so many bytes (0: whole)."""
    for _ in range(6):
        theirs.step()
        for cut in in_pieces(theirs.outgoing.read(), piece):
            assert ours.receive(cut) == b""
        theirs.incoming.write(ours.take())
        if ours.established and theirs.done and not theirs.outgoing.pending:
            return
    raise AssertionError("the handshake does not end")


def failure(ours: Session, theirs: Oracle) -> TlsError:
    """How the handshake fails on our side."""
    with pytest.raises(TlsError) as found:
        for _ in range(6):
            with contextlib.suppress(ssl.SSLError):
                theirs.step()
            ours.receive(theirs.outgoing.read())
            theirs.incoming.write(ours.take())
    return found.value


@pytest.mark.parametrize("piece", [0, 1, 3, 1000])
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_as_a_server_with_records_cut_anywhere(papers: Papers, version: str, piece: int) -> None:
    ours = Session(papers.server_context(protocols=[version.lower()]))
    theirs = client_oracle(papers)
    shake(ours, theirs, piece=piece)
    assert ours.info.startswith(version)
    assert (ours.info.split("/")[1], theirs.ssl.version()) == (theirs.ssl.cipher()[0], version)  # type: ignore[index]
    for size in (1, 16384, 16385, 100_000):
        text = (bytes(range(256)) * (size // 256 + 1))[:size]
        assert b"".join(ours.receive(cut) for cut in in_pieces(theirs.send(text), piece)) == text
        theirs.incoming.write(ours.send(text))
        assert theirs.read() == text


@pytest.mark.parametrize("piece", [0, 1])
@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_as_a_client(papers: Papers, version: str, piece: int) -> None:
    context = Context(role="client", ca=papers.authority.ca, peer="required", protocols=[version.lower()])
    asked = list[str | None]()

    def note_name(context: ssl.SSLContext) -> None:
        context.sni_callback = lambda _, name, __: asked.append(name)
        context.set_alpn_protocols(["postgresql"])

    ours, theirs = Session(context, host=HOST, name=HOST), server_oracle(papers, note_name)
    ours.begin()
    theirs.incoming.write(ours.take())
    shake(ours, theirs, piece=piece)
    assert (asked, ours.alpn, theirs.ssl.selected_alpn_protocol()) == ([HOST], True, "postgresql")
    assert ours.peer_names == ("the server", HOST)
    assert ours.peer_binding == hashlib.sha256(ssl.PEM_cert_to_DER_cert(papers.server.cert.decode())).digest()
    theirs.incoming.write(ours.send(b"SELECT 1"))
    assert theirs.read() == b"SELECT 1"
    assert b"".join(ours.receive(cut) for cut in in_pieces(theirs.send(b"one"), piece)) == b"one"


@pytest.mark.parametrize(
    ("host", "good"), [(HOST, True), ("127.0.0.1", True), ("other.example.com", False), ("10.0.0.1", False)]
)
def test_a_client_looks_whose_certificate_it_is(papers: Papers, host: str, good: bool) -> None:
    ours = Session(Context(role="client", ca=papers.authority.ca, peer="required"), host=host)
    theirs = server_oracle(papers)
    ours.begin()
    theirs.incoming.write(ours.take())
    if good:
        shake(ours, theirs)
    else:
        assert "mismatch" in str(failure(ours, theirs))
        assert ours.take()[0] == 0x15, "an alert"


def test_a_common_name_that_reads_like_an_address_is_none(papers: Papers) -> None:
    certificate = papers.authority.issue("10.0.0.7", alternatives=["DNS:10.0.0.7"])
    ours = Session(Context(role="client", ca=papers.authority.ca, peer="required"), host="10.0.0.7")
    theirs = server_oracle(papers, shows(certificate))
    ours.begin()
    theirs.incoming.write(ours.take())
    assert "IP address mismatch" in str(failure(ours, theirs))


def test_a_client_refuses_an_authority_that_it_does_not_know(papers: Papers, tmp_path: Path) -> None:
    other = Authority(tmp_path / "unknown", "unknown root")
    ours, theirs = Session(Context(role="client", ca=other.ca, peer="required")), server_oracle(papers)
    ours.begin()
    theirs.incoming.write(ours.take())
    assert "issuer certificate" in str(failure(ours, theirs))


@pytest.mark.parametrize(("mine", "why"), [("expired", "certificate expired"), ("stranger", "unknown ca")])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_does_not_take_our_certificate_is_told_from_whose_we_do_not_take(
    papers: Papers, mine: str, why: str, version: ssl.TLSVersion
) -> None:
    """As a client that looks at no certificate, so that the server's, which it does not know, is not the reason."""

    def demanding(context: ssl.SSLContext) -> None:
        context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=papers.authority.ca.decode())

    own: Certificate = getattr(papers, mine)
    ours = Session(Context(role="client", certificate=own.cert, key=own.key))
    theirs = server_oracle(papers, demanding)
    ours.begin()
    theirs.incoming.write(ours.take())
    error = failure(ours, theirs)
    assert (str(error), error.part) == (f"the other side does not take our certificate: {why}", "certificate")


def test_a_client_that_does_not_take_our_certificate(papers: Papers, tmp_path: Path) -> None:
    ours = Session(papers.server_context())
    theirs = Oracle(ssl.create_default_context(cafile=Authority(tmp_path / "unknown").ca_file), server_side=False)
    error = failure(ours, theirs)
    assert (str(error), error.part) == ("the other side does not take our certificate: unknown ca", "certificate")


def test_a_client_that_looks_at_no_certificate_takes_any(papers: Papers) -> None:
    ours, theirs = Session(Context(role="client")), server_oracle(papers)
    ours.begin()
    theirs.incoming.write(ours.take())
    shake(ours, theirs)
    assert ours.established and ours.peer_problem


def test_data_behind_the_last_message_of_the_handshake_is_given(papers: Papers) -> None:
    ours, theirs = Session(papers.server_context()), client_oracle(papers)
    theirs.step()
    ours.receive(theirs.outgoing.read())
    theirs.incoming.write(ours.take())
    theirs.step()
    theirs.ssl.write(b"at once")
    assert ours.receive(theirs.outgoing.read()) == b"at once"
    assert ours.established


def shows(certificate: Certificate) -> Callable[[ssl.SSLContext], None]:
    return lambda context: context.load_cert_chain(certificate.cert_file, certificate.key_file)


def test_names_of_a_client_certificate(papers: Papers) -> None:
    ours = Session(papers.server_context(ca=papers.authority.ca, peer="required"))
    shake(ours, client_oracle(papers, shows(papers.alice)))
    assert ours.peer_names == ("alice", "alice@example.com", "alice.example.com")


def test_a_client_without_a_certificate_has_no_names(papers: Papers) -> None:
    ours = Session(papers.server_context(ca=papers.authority.ca, peer="asked"))
    shake(ours, client_oracle(papers))
    assert ours.peer_names == ()


@pytest.mark.parametrize("whose", ["expired", "stranger"])
def test_a_certificate_that_does_not_verify_counts_as_none_where_it_was_only_asked_for(
    papers: Papers, whose: str
) -> None:
    ours = Session(papers.server_context(ca=papers.authority.ca, peer="asked"))
    shake(ours, client_oracle(papers, shows(getattr(papers, whose))))
    assert ours.peer_names == ()
    assert ours.peer_problem


@pytest.mark.parametrize(
    ("whose", "why"),
    [("expired", "expired"), ("stranger", "issuer certificate"), (None, "did not return a certificate")],
)
def test_a_certificate_that_is_required_must_verify(papers: Papers, whose: str | None, why: str) -> None:
    ours = Session(papers.server_context(ca=papers.authority.ca, peer="required"))
    theirs = client_oracle(papers, shows(getattr(papers, whose)) if whose else lambda _: None)
    error = failure(ours, theirs)
    assert why in str(error)
    assert error.part == "peer"


def test_a_revoked_certificate_is_refused_and_another_is_not(papers: Papers) -> None:
    authority = papers.authority
    bob, carol = authority.issue("bob"), authority.issue("carol")
    context = papers.server_context(ca=authority.ca, crl=authority.revocations(bob), peer="required")
    assert "revoked" in str(failure(Session(context), client_oracle(papers, shows(bob))))
    ours = Session(context)
    shake(ours, client_oracle(papers, shows(carol)))
    assert ours.peer_names == ("carol",)


def test_a_client_comes_back_with_a_ticket_and_not_to_another_context(papers: Papers) -> None:
    context = papers.server_context()
    client = ssl.create_default_context(cadata=papers.authority.ca.decode())

    def visit(context: Context, session: ssl.SSLSession | None) -> tuple[Session, Oracle]:
        ours, theirs = Session(context), Oracle(client, server_side=False, session=session)
        shake(ours, theirs)
        theirs.incoming.write(ours.send(b"hello"))
        assert theirs.read() == b"hello"  # and with it the ticket
        return ours, theirs

    first, theirs = visit(context, None)
    again, _ = visit(context, theirs.ssl.session)
    elsewhere, _ = visit(papers.server_context(), theirs.ssl.session)
    assert (first.resumed, again.resumed, elsewhere.resumed) == (False, True, False)


def test_a_resumed_client_is_who_it_was(papers: Papers) -> None:
    context = papers.server_context(ca=papers.authority.ca, peer="required")
    client = ssl.create_default_context(cadata=papers.authority.ca.decode())
    shows(papers.alice)(client)
    session: ssl.SSLSession | None = None
    for resumed in (False, True):
        ours, theirs = Session(context), Oracle(client, server_side=False, session=session)
        shake(ours, theirs)
        theirs.incoming.write(ours.send(b"x"))
        theirs.read()
        session = theirs.ssl.session
        assert (ours.resumed, ours.peer_names[0]) == (resumed, "alice")


def test_the_other_side_says_good_bye_behind_its_data(papers: Papers) -> None:
    ours, theirs = Session(papers.server_context()), client_oracle(papers)
    shake(ours, theirs)
    data = theirs.send(b"the last words")
    with contextlib.suppress(ssl.SSLWantReadError):
        theirs.ssl.unwrap()
    assert ours.receive(data + theirs.outgoing.read()) == b"the last words"
    assert ours.closed
    assert ours.receive(b"whatever") == b""
    ours.close()
    theirs.incoming.write(ours.take())
    theirs.ssl.unwrap()


def test_the_data_before_a_broken_record_is_given_and_the_failure_sticks(papers: Papers) -> None:
    ours, theirs = Session(papers.server_context()), client_oracle(papers)
    shake(ours, theirs)
    good, bad = theirs.send(b"good"), bytearray(theirs.send(b"bad"))
    bad[-1] ^= 1
    assert ours.receive(good + bytes(bad)) == b"good"
    assert ours.take(), "an alert"
    for attempt in (lambda: ours.receive(b""), lambda: ours.receive(theirs.send(b"more")), lambda: ours.send(b"x")):
        with pytest.raises(TlsError):
            attempt()


def test_nothing_is_sent_before_the_handshake_is_over(papers: Papers) -> None:
    with pytest.raises(RuntimeError):
        Session(papers.server_context()).send(b"in clear?")


@pytest.mark.parametrize(
    "data", [b"\0\0\0\x08\x04\xd2\x16\x2f", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(70000)]
)
def test_what_is_no_tls_is_refused(papers: Papers, data: bytes) -> None:
    ours = Session(papers.server_context())
    with pytest.raises(TlsError):
        ours.receive(data)


def test_only_our_protocol_can_be_agreed_on(papers: Papers) -> None:
    ours = Session(papers.server_context())
    shake(ours, client_oracle(papers, lambda context: context.set_alpn_protocols(["h2", "postgresql"])))
    assert ours.alpn
    without = Session(papers.server_context())
    shake(without, client_oracle(papers))
    assert not without.alpn
    error = failure(
        Session(papers.server_context()), client_oracle(papers, lambda context: context.set_alpn_protocols(["h2"]))
    )
    assert "application protocol" in str(error)


def test_old_protocols_are_refused_unless_asked_for(papers: Papers) -> None:
    def old(context: ssl.SSLContext) -> None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1

    with pytest.warns(DeprecationWarning):
        error = failure(Session(papers.server_context()), client_oracle(papers, old))
    assert "protocol" in str(error)
    context = papers.server_context(protocols=["tlsv1.1"], ciphers="ALL:@SECLEVEL=0")
    ours = Session(context)
    with pytest.warns(DeprecationWarning):
        shake(ours, client_oracle(papers, old))
    assert ours.info.startswith("TLSv1.1/")


def test_ciphers_and_curves_are_those_that_were_asked_for(papers: Papers) -> None:
    chosen = Session(papers.server_context(suites="TLS_CHACHA20_POLY1305_SHA256", groups="P-384"))
    shake(chosen, client_oracle(papers))
    assert chosen.info == "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256/ECDH=secp384r1"
    older = Session(
        papers.server_context(protocols=["tlsv1.2"], ciphers="ECDHE-ECDSA-AES128-GCM-SHA256", groups="P-256")
    )
    shake(older, client_oracle(papers))
    assert older.info == "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256/ECDH=prime256v1"


def test_without_elliptic_curves_a_finite_field_is_used(papers: Papers) -> None:
    rsa = papers.authority.issue("rsa", alternatives=[f"DNS:{HOST}"], key=RSA)
    context = Context(role="server", certificate=rsa.cert, key=rsa.key, protocols=["tlsv1.2"], ecdhe=False)
    ours = Session(context)
    shake(ours, client_oracle(papers, lambda client: client.set_ciphers("ALL")))
    assert ours.info.startswith("TLSv1.2/DHE-RSA-")


@pytest.mark.parametrize(
    ("key", "digest", "name"), [(RSA, "sha384", "sha384"), (RSA, "sha1", "sha256"), (ED25519, "sha256", "sha256")]
)
def test_a_binding_is_made_with_the_hash_of_the_signature(
    papers: Papers, key: tuple[str, ...], digest: str, name: str
) -> None:
    made = papers.authority.issue("bound", key=key, digest=digest)
    der = ssl.PEM_cert_to_DER_cert(made.cert.decode())
    context = Context(role="server", certificate=made.cert, key=made.key, ciphers="DEFAULT@SECLEVEL=0")
    assert context.binding == hashlib.new(name, der).digest()


def broken_contexts(papers: Papers) -> dict[str, tuple[dict[str, Any], str]]:
    good = {"role": "server", "certificate": papers.server.cert, "key": papers.server.key}
    return {
        "no certificate": (good | {"certificate": b""}, "certificate"),
        "not a certificate": (
            good | {"certificate": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
            "certificate",
        ),
        "a chain with garbage": (
            good | {"certificate": papers.server.cert + b"-----BEGIN CERTIFICATE-----\nAAAA\n"},
            "certificate",
        ),
        "no key": (good | {"key": papers.server.cert}, "key"),
        "somebody else's key": (good | {"key": papers.alice.key}, "pair"),
        "no authority": (good | {"peer": "required"}, "ca"),
        "an authority that is none": (good | {"ca": papers.server.key}, "ca"),
        "no list": (good | {"ca": papers.authority.ca, "crl": papers.authority.ca}, "crl"),
        "no protocol": (good | {"protocols": []}, "protocols"),
        "no cipher": (good | {"ciphers": "NOSUCH"}, "ciphers"),
        "no suite": (good | {"suites": "NOSUCH"}, "suites"),
        "no curve": (good | {"groups": "NOSUCH"}, "groups"),
    }


@pytest.mark.parametrize("which", [*range(12)])
def test_a_context_says_what_it_cannot_be_made_of(papers: Papers, which: int) -> None:
    name, (arguments, part) = list(broken_contexts(papers).items())[which]
    with pytest.raises(TlsError) as found:
        Context(**arguments)
    assert (found.value.part, bool(str(found.value))) == (part, True), name


def test_an_encrypted_key_is_refused_without_asking_the_terminal(papers: Papers, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    command = [
        "openssl",
        "pkey",
        "-in",
        str(papers.server.key_file),
        "-aes256",
        "-passout",
        "pass:x",
        "-out",
        str(locked),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(TlsError, match="encrypted"):
        Context(role="server", certificate=papers.server.cert, key=locked.read_bytes())


def test_a_chain_is_sent_whole(papers: Papers, tmp_path: Path) -> None:
    """A client that knows the root only gets what is between from us."""
    between = papers.authority.issue("between")
    config = tmp_path / "v3.cnf"
    config.write_text(
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    request = between.cert_file.with_suffix(".csr")
    base = ["openssl", "x509", "-req", "-days", "30", "-CAcreateserial"]
    root = papers.authority.own
    subprocess.run(
        [
            *base,
            "-in",
            request,
            "-CA",
            root.cert_file,
            "-CAkey",
            root.key_file,
            "-extfile",
            config,
            "-out",
            between.cert_file,
        ],
        check=True,
        capture_output=True,
    )
    leaf = papers.authority.issue("leaf", alternatives=[f"DNS:{HOST}"])
    request = leaf.cert_file.with_suffix(".csr")
    command = [*base, "-in", request, "-CA", between.cert_file, "-CAkey", between.key_file, "-copy_extensions", "copy"]
    command += ["-extfile", papers.authority.folder / "leaf.ext"]
    subprocess.run([*command, "-out", leaf.cert_file], check=True, capture_output=True)
    ours = Session(Context(role="server", certificate=leaf.cert + between.cert, key=leaf.key))
    shake(ours, client_oracle(papers))
    assert ours.established
