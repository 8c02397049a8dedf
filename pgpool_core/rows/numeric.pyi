"""numeric."""

from pgpool_core.rows.codec import Codec

class Numeric(Codec): ...
