"""The one way in which the benchmark gives up, and the one in which it tries again."""

from __future__ import annotations


class TooBusy(Exception):
    """A run whose counted part is next to nothing: logins and warm-up have taken its seconds, and its figures mean nothing."""


class BenchError(Exception):
    """A target did not start, did not answer, or failed while it was measured; the text names it."""
