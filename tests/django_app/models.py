"""The models that run in production, as they were before the collector came."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import models
from django.db.models import Count, Max, Min
from django.utils import timezone


class AnalyticsSessionManager(models.Manager["AnalyticsSession"]):
    """Sessions in the ways that the app asks for them."""

    def active_sessions(self) -> models.QuerySet[AnalyticsSession]:
        """Those that have not ended."""
        return self.filter(ended_at__isnull=True)

    def for_user(self, user_id: int) -> models.QuerySet[AnalyticsSession]:
        """Those of a user."""
        return self.filter(user_id=user_id)


class AnalyticsSession(models.Model):
    """A visit."""

    session_id = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)
    user_agent = models.TextField(blank=True)
    referrer = models.TextField(blank=True)

    objects = AnalyticsSessionManager()

    class Meta:
        """The table has a name of its own."""

        db_table = "analytics_session"

    def __str__(self) -> str:
        return self.session_id

    @property
    def duration(self) -> timedelta | None:
        """How long it took, or None while it is active."""
        return None if self.ended_at is None else self.ended_at - self.started_at


class AnalyticsEventManager(models.Manager["AnalyticsEvent"]):
    """Events in the ways that the app asks for them."""

    def for_session(self, session_id: str) -> models.QuerySet[AnalyticsEvent]:
        """Those of a session."""
        return self.filter(session_id=session_id)

    def by_type(self, event_type: str) -> models.QuerySet[AnalyticsEvent]:
        """Those of a type."""
        return self.filter(event_type=event_type)

    def in_date_range(self, start: datetime, end: datetime) -> models.QuerySet[AnalyticsEvent]:
        """Those from one moment to another."""
        return self.filter(created_at__range=(start, end))


class AnalyticsEvent(models.Model):
    """Something that happened."""

    EVENT_TYPES = [(name, name) for name in "page_view click form_submit purchase signup login logout".split()]  # noqa: RUF012, SIM905

    user = models.ForeignKey(User, null=True, on_delete=models.SET_NULL)
    session_id = models.CharField(max_length=64)
    event_type = models.CharField(max_length=50, choices=EVENT_TYPES)
    event_data = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)
    ip_address = models.GenericIPAddressField(null=True)

    objects = AnalyticsEventManager()

    class Meta:
        """The table has a name of its own."""

        db_table = "analytics_event"

    def __str__(self) -> str:
        return f"{self.event_type} at {self.created_at}"


class UserAnalyticsProfile(models.Model):
    """What is known of a user."""

    user = models.OneToOneField(User, related_name="analytics_profile", on_delete=models.CASCADE)
    total_sessions = models.IntegerField(default=0)
    total_events = models.IntegerField(default=0)
    first_seen = models.DateTimeField(null=True)
    last_seen = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"profile of {self.user_id}"

    def update_stats(self) -> None:
        """Count it all anew."""
        seen = AnalyticsEvent.objects.filter(user=self.user).aggregate(
            count=Count("id"), first=Min("created_at"), last=Max("created_at")
        )
        self.total_events, self.first_seen, self.last_seen = seen["count"], seen["first"], seen["last"]
        self.total_sessions = AnalyticsSession.objects.filter(user=self.user).count()
        self.save()
