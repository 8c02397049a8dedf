"""Tests as Django runs them: in a database that is made and dropped through the pooler."""

from __future__ import annotations

from django.test import TestCase
from settings import proxy

from notes.models import Note


class Notes(TestCase):  # type: ignore[misc]
    """`python manage.py test`."""

    def test_what_was_added_is_streamed(self) -> None:
        Note.objects.bulk_create(Note(text=f"note {number}") for number in range(250))
        self.client.get("/add", {"text": "the last one"})
        lines = b"".join(self.client.get("/").streaming_content).decode().splitlines()
        self.assertEqual((len(lines), lines[0], lines[-1]), (251, "note 0", "the last one"))

    def test_it_goes_through_the_pooler(self) -> None:
        self.assertGreater(proxy.statistics().overall.totals.client_logins, 0)
