"""A real LDAP server for tests: OpenLDAP's slapd, on ports of loopback, with people who have passwords."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from pathlib import Path
from signal import SIGCONT, SIGSTOP

from pgpool_core.testing.account import Account
from pgpool_core.testing.ports import free_port
from pgpool_core.testing.process import GuardedProcess
from tests.certificates import Certificate

BASE = "dc=example,dc=org"
READER = f"cn=reader,{BASE}"
READER_PASSWORD = "reads entries"

_OURSELVES = Account("ourselves", os.geteuid(), os.getegid())


def find_slapd() -> str | None:
    """The program, where it is installed."""
    return shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/libexec")


class LdapServer:
    """`people` are entries uid=NAME,ou=people,dc=example,dc=org; nobody else than READER may search."""

    def __init__(self, folder: Path, people: Mapping[str, str], certificate: Certificate, ca_file: Path) -> None:
        program = find_slapd()
        assert program is not None
        self.port, self.tls_port = free_port(), free_port()
        self.ca_file = ca_file
        data = folder / "data"
        data.mkdir(parents=True)
        schema = next(path for path in ("/etc/ldap/schema", "/etc/openldap/schema") if os.path.isdir(path))
        config = folder / "slapd.conf"
        modules = next((path for path in ("/usr/lib/ldap", "/usr/lib/openldap") if os.path.isdir(path)), "")
        config.write_text(
            "".join(f"include {schema}/{name}.schema\n" for name in ("core", "cosine", "inetorgperson"))
            + f'defaultsearchbase "{BASE}"\n'
            + (f"modulepath {modules}\nmoduleload back_mdb\n" if modules else "")
            + f"TLSCACertificateFile {ca_file}\nTLSCertificateFile {certificate.cert_file}\n"
            + f"TLSCertificateKeyFile {certificate.key_file}\npidfile {folder}/pid\n"
            + f'database mdb\nmaxsize 16777216\nsuffix "{BASE}"\nrootdn "{READER}"\nrootpw "{READER_PASSWORD}"\n'
            + f"directory {data}\naccess to attrs=userPassword by anonymous auth\naccess to * by users read by * none\n"
        )
        entries = [f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: x\ndc: example\n"]
        entries += [
            f"dn: ou={unit},{BASE}\nobjectClass: organizationalUnit\nou: {unit}\n" for unit in ("people", "others")
        ]
        entries += [
            f"dn: uid={name},ou=people,{BASE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: {name}\n"
            f"mail: {name}@example.org\nuserPassword: {password}\n"
            for name, password in people.items()
        ]
        twin = next(iter(people))
        entries.append(f"dn: cn=twin,ou=others,{BASE}\nobjectClass: inetOrgPerson\nuid: {twin}\ncn: twin\nsn: twin\n")
        (folder / "entries.ldif").write_text("\n".join(entries))
        command = [program, "-Tadd", "-f", str(config), "-l", str(folder / "entries.ldif")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        urls = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        self._process = GuardedProcess([program, "-f", config, "-h", urls, "-d", "0"], account=_OURSELVES)
        for port in (self.port, self.tls_port):
            self._process.wait_for_listener(("127.0.0.1", port))

    def pause(self) -> None:
        """Stand still: connections are accepted by the kernel, and nobody answers."""
        self._process.signal(SIGSTOP)

    def resume(self) -> None:
        self._process.signal(SIGCONT)

    def set_password(self, name: str, password: str) -> None:
        """From now on that is the one of `name`."""
        with warnings.catch_warnings(action="ignore"):  # its own, about how it uses pyasn1
            ldap3 = importlib.import_module("ldap3")
        with ldap3.Connection(f"ldap://127.0.0.1:{self.port}", READER, READER_PASSWORD, raise_exceptions=True) as link:
            change = {"userPassword": [(ldap3.MODIFY_REPLACE, [password])]}
            link.modify(f"uid={name},ou=people,{BASE}", change)

    def close(self) -> None:
        self.resume()
        self._process.stop()
