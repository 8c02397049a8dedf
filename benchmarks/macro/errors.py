"""The one way in which the benchmark gives up, and the one in which it tries again."""

from __future__ import annotations


class TooBusy(Exception):
    """A run whose figures mean nothing, and why: logins and warm-up have taken its seconds, or the machine stood still in them."""


class BenchError(Exception):
    """A target did not start, did not answer, or failed while it was measured; the text names it."""
