"""The application `analytics`: its label makes the default table names."""

from django.apps import AppConfig


class Analytics(AppConfig):
    """Named by its label; the folder has another name."""

    name = "tests.django_app"
    label = "analytics"
    default_auto_field = "django.db.models.BigAutoField"
