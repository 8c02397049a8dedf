"""`/` streams all notes, read by a cursor on the server; `/add?text=...` writes one."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from notes.models import Note


def everything(request: HttpRequest) -> StreamingHttpResponse:
    def lines() -> Iterator[str]:
        with transaction.atomic():  # inside a transaction the cursor keeps no server from others afterwards
            for note in Note.objects.order_by("id").iterator(chunk_size=100):
                yield f"{note.text}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


def add(request: HttpRequest) -> HttpResponse:
    note = Note.objects.create(text=request.GET["text"])
    return HttpResponse(f"{note.id}\n", content_type="text/plain")


urlpatterns = [path("", everything), path("add", add)]
