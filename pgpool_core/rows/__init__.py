"""Rows: DataRow read into typed values, Bind filled with them, and the messages of one connection; compiled, no sockets."""

from pgpool_core.compiled import use_bundle

use_bundle()
