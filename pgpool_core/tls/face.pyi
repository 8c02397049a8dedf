"""TLS without sockets; compiled from pyx/pgpool_core/tls/face.pyx. Bytes in, bytes out.

session = Session(context)
plain = session.receive(what_has_come)      # and then, whatever came of it:
send(session.take())
send(session.send(b"plain text"))
"""

from collections.abc import Iterable
from typing import Literal

ROLES: dict[str, int]
PEERS: dict[str, int]
PROTOCOLS: dict[str, int]
DHPARAMS: dict[str, int]
PARTS: dict[int, str]

class Context:
    """Certificate, key, whom to trust, which protocols. Sessions share it; it never changes."""

    binding: bytes  # tls-server-end-point of our own certificate; b"" where its kind of signature defines none

    def __init__(
        self,
        *,
        role: Literal["server", "client"],  # server: we are connected to
        certificate: bytes = b"",  # PEM: the certificate, then those that lead to a root
        key: bytes = b"",  # PEM, not encrypted
        ca: bytes = b"",  # PEM: whom to trust
        crl: bytes = b"",  # PEM: what they have revoked; with it, every authority in a chain needs a list
        system_ca: bool = False,  # trust what the system trusts, besides
        peer: Literal["ignored", "asked", "required"] = "ignored",  # whether the other side's certificate is asked for
        protocols: Iterable[str] = ("tlsv1.2", "tlsv1.3"),
        ciphers: str = "",  # of TLS 1.2 and below, as OpenSSL writes them; "" = the library's. So are the others
        suites: str = "",  # of TLS 1.3
        groups: str = "",
        dhparams: str = "auto",  # none, auto or legacy
        ecdhe: bool = True,  # elliptic curves in TLS 1.2
    ) -> None:
        """
        Raises:
            TlsError: a text or a name cannot be used; `part` says which: a parameter's name, "pair" (certificate and key), or "memory".
        """

class Session:
    """One connection. Its failures stick."""

    established: bool  # the handshake is over
    closed: bool  # the other side has said that nothing more will come
    alpn: bool  # the two have agreed on "postgresql"
    resumed: bool  # with a ticket of an earlier one
    info: str  # TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=X25519; "" before the handshake is over
    peer_names: tuple[str, ...]  # if its certificate verifies: the common name (or ""), then alternative ones
    peer_problem: str  # why its certificate does not verify, whether or not that matters; "" where it does
    peer_binding: bytes  # tls-server-end-point of its certificate

    def __init__(self, context: Context, *, host: str = "", name: str = "") -> None:
        """
        Args:
            host: whose certificate it has to be, a name or an address; "" = any that verifies.
            name: the name to ask the server for (SNI); "" = none. An address must not be asked for.
        Raises:
            TlsError: `host` or `name` cannot be the name of a host.
        """
    def begin(self) -> None:
        """A client's first words, to be taken; a server waits for them."""
    def receive(self, data: bytes) -> bytes:
        """What has come, as plain text; b"" while it is nothing for us. There may be something to be taken afterwards, also after an error.

        Raises:
            TlsError: the other side broke the protocol, or its certificate is not good.
        """
    def send(self, data: bytes) -> bytes:
        """`data` encrypted, with what was left to be taken in front of it.

        Raises:
            TlsError: the connection had failed.
            RuntimeError: the handshake is not over.
        """
    def take(self) -> bytes:
        """What is to be sent before anything else."""
    def close(self) -> None:
        """Say that nothing more will come: to be taken."""
