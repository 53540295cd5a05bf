"""What a Django app does by itself: views that store events and count profiles with the models as they are.

They parse the body and do the one thing that they are named after: no middleware, no check, nothing stored twice is
noticed, and no profile is kept but by `update_stats()`. This is the least that Django can do.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests import django_app

django_app.connect(os.environ["DJANGO_DSN"], CONN_MAX_AGE=json.loads(os.environ["DJANGO_CONN_MAX_AGE"]))

from tests.django_app.models import AnalyticsEvent, UserAnalyticsProfile  # noqa: E402


def bulk_create(request: HttpRequest) -> HttpResponse:
    """Store a batch."""
    events = json.loads(request.body)["events"]
    AnalyticsEvent.objects.bulk_create(AnalyticsEvent(**columns(event)) for event in events)
    return _accepted(len(events))


def create(request: HttpRequest) -> HttpResponse:
    """Store one event."""
    [event] = json.loads(request.body)["events"]
    AnalyticsEvent.objects.create(**columns(event))
    return _accepted(1)


def update_stats(request: HttpRequest) -> HttpResponse:
    """Bring the profile of an event's user up to date."""
    [event] = json.loads(request.body)["events"]
    UserAnalyticsProfile.objects.get(user_id=event["user_id"]).update_stats()
    return _accepted(1)


def columns(event: dict[str, Any]) -> dict[str, Any]:
    """What the model knows of an event."""
    names = ("user_id", "session_id", "event_type", "event_data")
    return {name: event[name] for name in names} | {"created_at": datetime.fromisoformat(event["created_at"])}


def _accepted(count: int) -> HttpResponse:
    body = json.dumps({"accepted": count})
    # Else gunicorn would send it in chunks: Django leaves the length to one of its middlewares.
    return HttpResponse(body, content_type="application/json", headers={"Content-Length": str(len(body))})


urlpatterns = [path(view.__name__, view) for view in (bulk_create, create, update_stats)]
settings.ROOT_URLCONF = __name__
app = WSGIHandler()
