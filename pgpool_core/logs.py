"""Log lines: who, what, then `key=value` with units.

The library only ever writes to the logger `pgpool_core`; where that goes is the embedding program's business, and in the executable that
of `process.log_output`. Never SQL text, passwords, keys or tokens.

    2026-11-21 02:43:34.627 UTC [4711] LOG C-0x1f3: appdb/alice@10.0.0.8:51932 login attempt: db=appdb user=alice tls=no replication=no took_ms=14 method=scram-sha-256

Source: PgBouncer's lines, which begin the same way and which log shippers already cut at these places.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgpool_core.metrics.counters import Averages

LOGGER: Final = logging.getLogger("pgpool_core")

_LEVEL_WORDS: Final = {logging.INFO: "LOG", logging.CRITICAL: "FATAL"}  # PgBouncer's; the others are Python's too
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NEEDS_QUOTES: Final = re.compile(r'[\s"=\\]')


def printable(text: str) -> str:
    """`text` on one line: control characters, line ends and broken bytes become escapes, so that no peer can forge a line."""
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def field_value(value: object) -> str:
    """One value as it stands after `key=`: quoted where a reader could not tell where it ends."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    text = str(value)
    if text and not _NEEDS_QUOTES.search(text):
        return printable(text)
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def line(who: str, what: str, fields: Mapping[str, object] | None = None) -> str:
    """A log line without its time stamp: `who what key=value ...`; `who` may be empty, fields keep their order."""
    parts = [printable(who)] if who else []
    parts.append(printable(what))
    parts.extend(f"{key}={field_value(value)}" for key, value in (fields or {}).items())
    return " ".join(parts)


def server_tag(server_id: int, database: str, user: str, host: str, port: int) -> str:
    """How a server connection is called in a line: `S-0x1f3: db/user@host:port`; IPv6 in brackets, `unix:port` for a socket."""
    if not host or host.startswith(("/", "@")):
        place = f"unix:{port}"
    else:
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"S-0x{server_id:x}: {database}/{user}@{place}"


def stats_line(averages: Averages) -> str:
    """The operator's line once every stats_period, in PgBouncer's wording, so that pgBadger and scripts read it."""
    a = averages
    return (
        f"stats: {a.xacts} xacts/s, {a.queries} queries/s, {a.client_parses} client parses/s, "
        f"{a.server_parses} server parses/s, {a.binds} binds/s, {a.client_logins} client logins/s, "
        f"in {a.received} B/s, out {a.sent} B/s, xact {a.xact_us} us, query {a.query_us} us, wait {a.wait_us} us"
    )


class LineFormatter(logging.Formatter):
    """`YYYY-MM-DD HH:MM:SS.mmm UTC [PID] LEVEL message`; a traceback, if any, follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.created))
        level = _LEVEL_WORDS.get(record.levelno, record.levelname)
        text = f"{stamp}.{int(record.msecs):03d} UTC [{record.process}] {level} {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text
