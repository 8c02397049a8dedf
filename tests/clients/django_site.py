"""A Django application in one file: `django_site.py HOST PORT SCENARIO` exits with 0 when the scenario went well.

In a process of its own, because Django is configured once per process.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import django
from django.conf import settings

HOST, PORT, SCENARIO = sys.argv[1:]
settings.configure(
    USE_TZ=True,
    TIME_ZONE="Asia/Tokyo",
    DATABASES={
        name: {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": HOST,
            "PORT": PORT,
            "USER": "app",
            "PASSWORD": "app-secret",
            "NAME": "app",
            "CONN_MAX_AGE": None,
            "CONN_HEALTH_CHECKS": True,
            **more,
        }
        for name, more in {
            "default": {},
            "elsewhere": {"TIME_ZONE": "America/Lima"},
            "bound": {"OPTIONS": {"server_side_binding": True, "isolation_level": 3}},
        }.items()
    },
)
django.setup()

from django.db import IntegrityError, close_old_connections, connection, connections, models, transaction  # noqa: E402
from django.db.models import Count, F  # noqa: E402
from django.utils import timezone  # noqa: E402

# Of two servers, one can be kept at a time.
KEEPS_A_SERVER = ("held_iterator", "bound")


class Author(models.Model):
    name = models.TextField(unique=True)
    seen = models.DateTimeField(default=timezone.now)

    class Meta:
        app_label = "site"
        db_table = "django_author"


class Note(models.Model):
    author = models.ForeignKey(Author, models.CASCADE)
    words = models.JSONField(default=dict)

    class Meta:
        app_label = "site"
        db_table = "django_note"


def value(sql: str, using: str = "default") -> object:
    with connections[using].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def iterators(client: int) -> None:
    """Cursors on the server, within transactions."""
    author = Author.objects.create(name=f"iterated {client}")
    Note.objects.bulk_create([Note(author=author, words={"n": n}) for n in range(300)])
    for _ in range(3):
        with transaction.atomic():
            found = [
                note.words["n"] for note in Note.objects.filter(author=author).order_by("id").iterator(chunk_size=20)
            ]
        assert found == [*range(300)], found


def held_iterator(client: int) -> None:
    """Outside a transaction Django declares them WITH HOLD: other statements between the chunks, and an iteration that is given up."""
    author = Author.objects.create(name="held")
    Note.objects.bulk_create([Note(author=author, words={"n": n}) for n in range(100)])
    for note in Note.objects.filter(author=author).order_by("id").iterator(chunk_size=10):
        Note.objects.filter(id=note.id).update(words={"n": note.words["n"] + 1})
    assert sorted(note.words["n"] for note in Note.objects.filter(author=author)) == [*range(1, 101)]
    given_up = Note.objects.filter(author=author).iterator(chunk_size=10)
    next(given_up)
    given_up.close()
    assert value("select count(*) from pg_cursors where is_holdable") == 0


def savepoints(client: int) -> None:
    for number in range(10):
        with transaction.atomic():
            author = Author.objects.create(name=f"{client}.{number}")
            try:
                with transaction.atomic():
                    Author.objects.create(name=f"{client}.{number}")
                raise AssertionError("twice the same name")
            except IntegrityError:
                pass
            try:
                with transaction.atomic():
                    Note.objects.create(author=author)
                    raise LookupError
            except LookupError:
                pass
            Note.objects.create(author=Author.objects.select_for_update().get(pk=author.pk), words={"client": client})
        assert Note.objects.filter(author=author).count() == 1
        counted = Note.objects.filter(author=author).values("author__name").annotate(notes=Count("id"))
        assert [row["notes"] for row in counted] == [1]
        Author.objects.filter(pk=author.pk).update(name=F("name"))


def zones(client: int) -> None:
    """Each connection has the time zone that its settings say, whichever server it meets; also after a change of it."""
    for _ in range(10):
        assert value("show timezone") == "UTC", value("show timezone")
        assert value("show timezone", "elsewhere") == "America/Lima"
        with transaction.atomic("elsewhere"):
            assert value("select now() = transaction_timestamp()", "elsewhere")
        with timezone.override("Europe/Paris"):
            assert Author.objects.filter(seen__year=1990).count() == 0
        close_old_connections()


def bound(client: int) -> None:
    """Parameters bound by the server, and an isolation level of its own."""
    for number in range(10):
        with transaction.atomic("bound"):
            assert value("show transaction_isolation", "bound") == "repeatable read"
            author = Author.objects.using("bound").create(name=f"bound {client}.{number}")
        assert [a.pk for a in Author.objects.using("bound").filter(name=author.name).iterator()] == [author.pk]


def in_threads(use, size: int) -> None:
    def one(client: int) -> None:
        try:
            use(client)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(size) as threads:
        for done in [threads.submit(one, client) for client in range(size)]:
            done.result()


def main() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Author)
        editor.create_model(Note)
    try:
        tables = connection.introspection.table_names()
        assert {"django_author", "django_note"} <= set(tables)
        in_threads(globals()[SCENARIO], 1 if SCENARIO in KEEPS_A_SERVER else 4)
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Note)
            editor.delete_model(Author)
        connections.close_all()


main()
