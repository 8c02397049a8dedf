"""inet and cidr."""

from pgpool_core.rows.codec import Codec

class Inet(Codec):
    network: bool
    def __init__(self, oid: int, name: str, *, network: bool) -> None: ...
