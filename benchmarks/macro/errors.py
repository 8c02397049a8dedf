"""The one way in which the benchmark gives up."""

from __future__ import annotations


class BenchError(Exception):
    """A target did not start, did not answer, or failed while it was measured; the text names it."""
