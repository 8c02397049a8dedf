"""What users who do not exist are made of: a secret that all poolers of this host have in common, and keep over restarts.

A salt that changes from one question to the next says that there is no such user. PostgreSQL keeps a number for that in its cluster; we
have nowhere to keep one, so it is derived from the name of the host that nobody else knows.
Source: machine-id(5); sd_id128_get_machine_app_specific(3), of which we keep all 32 bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path
from typing import Final

MACHINE_ID: Final = Path("/etc/machine-id")
KEY_LEN: Final = 32

_OURS: Final = bytes.fromhex("fd208f4f08c557a1d05d185a5c3b287f")  # this use of the machine's id
_ID: Final = re.compile(rb"[0-9a-fA-F]{32}")


def host_key(path: Path = MACHINE_ID) -> bytes:
    """The key; a random one where the machine has no id, as in most containers."""
    try:
        with path.open("rb") as file:
            text = file.read(64).strip()
    except OSError:
        text = b""
    machine = bytes.fromhex(text.decode()) if _ID.fullmatch(text) else b""
    return hmac.digest(machine, _OURS, hashlib.sha256) if any(machine) else secrets.token_bytes(KEY_LEN)
