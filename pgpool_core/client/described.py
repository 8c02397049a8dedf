"""What a server says of a statement, of a command that is done and of a NOTIFY, as it stands in its messages. Bytes in, facts out.

Source: PostgreSQL docs, "Message Formats", ParameterDescription, RowDescription, CommandComplete, NotificationResponse.
"""

from __future__ import annotations

import struct
from typing import Final

from pgpool_core.client.values import Notification
from pgpool_core.errors import ServerProtocolError


def rows_of_tag(tag: bytes) -> int:
    """How many rows a CommandComplete is about; 0 where it does not say."""
    last = tag[:-1].rpartition(b" ")[2]
    return int(last) if last.isdigit() else 0


MOST_PARAMETERS: Final = 65_535
"""A Bind counts its values in two bytes."""


def parameter_oids(body: bytes) -> list[int]:
    """Types of a ParameterDescription, all of them: PostgreSQL lets a text have more than there is room for in its count, which begins again at 0.

    Raises:
        ServerProtocolError: it is none.
    """
    if len(body) < 2 or len(body) % 4 != 2 or (len(body) // 4) % 65_536 != struct.unpack_from("!H", body)[0]:
        raise ServerProtocolError("malformed ParameterDescription")
    return list(struct.unpack(f"!{(len(body) - 2) // 4}I", body[2:]))


def columns_of(body: bytes | None) -> list[tuple[str, int]]:
    """Names and types of a RowDescription; of None, none.

    Raises:
        ServerProtocolError: it is malformed.
    """
    if body is None:
        return []
    columns: list[tuple[str, int]] = []
    try:
        (count,) = struct.unpack_from("!H", body)
        at = 2
        for _ in range(count):
            end = body.index(0, at)
            columns.append((body[at:end].decode(errors="replace"), struct.unpack_from("!I", body, end + 7)[0]))
            at = end + 19
    except (struct.error, ValueError) as error:
        raise ServerProtocolError("malformed RowDescription") from error
    if at != len(body):
        raise ServerProtocolError("malformed RowDescription")
    return columns


def notification_of(body: bytes) -> Notification:
    """What a NotificationResponse says.

    Raises:
        ServerProtocolError: it is none.
    """
    if len(body) < 6 or body.count(b"\0", 4) < 2:
        raise ServerProtocolError("malformed NotificationResponse")
    (pid,) = struct.unpack_from("!i", body)
    channel, _, payload = body[4:-1].partition(b"\0")
    return Notification(channel.decode(errors="replace"), payload.decode(errors="replace"), pid)
