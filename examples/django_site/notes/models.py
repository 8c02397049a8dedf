"""A note."""

from __future__ import annotations

from django.db import models


class Note(models.Model):  # type: ignore[misc]
    """Some text, and when it was written."""

    text = models.TextField()
    written = models.DateTimeField(auto_now_add=True)
