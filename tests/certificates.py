"""Certificates for tests, made by the program `openssl`: an authority, what it has signed, what it has revoked."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("-newkey", "rsa:2048")
ED25519 = ("-newkey", "ed25519")


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@attrs.frozen
class Certificate:
    """A certificate and its key, in files."""

    cert_file: Path
    key_file: Path

    @property
    def cert(self) -> bytes:
        return self.cert_file.read_bytes()

    @property
    def key(self) -> bytes:
        return self.key_file.read_bytes()


class Authority:
    """Signs certificates; its own is self-signed. Everything is in `folder`."""

    def __init__(self, folder: Path, name: str = "test root") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.own = Certificate(folder / "root.crt", folder / "root.key")
        _openssl(
            *("req", "-x509", *EC, "-nodes", "-keyout", self.own.key_file, "-out", self.own.cert_file),
            *("-days", "30", "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        (folder / "index.txt").touch()
        (folder / "leaf.ext").write_text("authorityKeyIdentifier=keyid\n")  # else Python 3.13 takes it for none
        (folder / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=own\n[own]\ndatabase={folder}/index.txt\ndefault_md=sha256\ndefault_crl_days=30\n"
        )

    @property
    def ca_file(self) -> Path:
        return self.own.cert_file

    @property
    def ca(self) -> bytes:
        return self.own.cert

    def issue(
        self,
        name: str,
        *,
        alternatives: Sequence[str] = (),
        key: Sequence[str] = EC,
        digest: str = "sha256",
        days: int = 30,
    ) -> Certificate:
        """Sign one.

        Args:
            name: its common name; no comma.
            alternatives: as OpenSSL writes them: "DNS:localhost", "IP:127.0.0.1", "email:alice@example.com".
            days: how long it is good; -1 = since yesterday no more.
        """
        stem = f"{len(list(self.folder.glob('*.csr')))}"
        made = Certificate(self.folder / f"{stem}.crt", self.folder / f"{stem}.key")
        request = self.folder / f"{stem}.csr"
        extra = ("-addext", f"subjectAltName={','.join(alternatives)}") if alternatives else ()
        _openssl(
            "req", "-new", *key, "-nodes", "-keyout", made.key_file, "-out", request, "-subj", f"/CN={name}", *extra
        )
        _openssl(
            *(
                "x509",
                "-req",
                "-in",
                request,
                "-CA",
                self.own.cert_file,
                "-CAkey",
                self.own.key_file,
                "-CAcreateserial",
            ),
            *("-days", str(days), f"-{digest}", "-copy_extensions", "copy", "-extfile", self.folder / "leaf.ext"),
            *("-out", made.cert_file),
        )
        return made

    def revocations(self, *revoked: Certificate) -> bytes:
        """A revocation list."""
        signing = ("-config", self.folder / "ca.cnf", "-cert", self.own.cert_file, "-keyfile", self.own.key_file)
        for one in revoked:
            _openssl("ca", *signing, "-revoke", one.cert_file)
        _openssl("ca", *signing, "-gencrl", "-out", self.folder / "revoked.crl")
        return (self.folder / "revoked.crl").read_bytes()
