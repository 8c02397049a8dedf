"""The certificate of a pooler in the cases with TLS: P-256, signed by itself, made by the program `openssl`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.macro.errors import BenchError


def tls_settings(folder: Path) -> dict[str, object]:
    """Settings that offer TLS to clients, with a certificate that is written to `folder`.

    Raises:
        BenchError: there is no `openssl`, or it did not do it.
    """
    key, certificate = folder / "tls.key", folder / "tls.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as why:
        raise BenchError(f"openssl makes no certificate: {getattr(why, 'stderr', '') or why}") from why
    key.chmod(0o644)  # PgBouncer runs as another user
    return {"client_tls_sslmode": "allow", "client_tls_key_file": key, "client_tls_cert_file": certificate}
