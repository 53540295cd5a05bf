"""Every error the collector raises on purpose.

CollectorError
├── ConfigError              a setting is missing or makes no sense
├── EmbeddedPostgresError    the development Postgres cannot run here
├── MigrationError           the database and the migration files disagree
├── KeyRegistryError         a key cannot be created or revoked
├── HousekeepingError        a job cannot be done now; it is tried again
├── RecordError              one record is refused; its neighbours are stored
└── RequestError             the whole request is answered with an error status
    ├── MalformedError       400
    ├── UnauthorizedError    401
    ├── NotFoundError        404
    ├── TooLargeError        413
    ├── TooManyRequestsError 429, with Retry-After
    └── UnavailableError     503, with Retry-After
"""

from __future__ import annotations

from typing import ClassVar, Final

_LONGEST_MESSAGE: Final = 1000  # characters; some name the value, which may be as long as the body


class CollectorError(Exception):
    """Something the collector noticed and can name."""


class ConfigError(CollectorError):
    """A setting is missing or makes no sense."""


class EmbeddedPostgresError(CollectorError):
    """The development Postgres cannot run here."""


class MigrationError(CollectorError):
    """The database and the migration files disagree."""


class KeyRegistryError(CollectorError):
    """A key cannot be created or revoked."""


class HousekeepingError(CollectorError):
    """A job of the housekeeping cannot be done now; it is tried again later."""


class RecordError(CollectorError):
    """One record of a batch is refused.

    Attributes:
        code: One of the closed set in `records.REASONS`.
        message: What was wrong and where, for the person who sent it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:_LONGEST_MESSAGE]


class RequestError(CollectorError):
    """The whole request is answered with an error status.

    Attributes:
        status: The HTTP status.
        code: A word for programs; real clients stop retrying when they find it.
        message: One sentence for people.
        detail: What was wrong, where, and what to do next.
    """

    status: ClassVar[int] = 500
    code: str = "internal"
    retry_after: int | None = None  # seconds

    def __init__(self, message: str, detail: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        if code is not None:
            self.code = code


class MalformedError(RequestError):
    """The request cannot be understood; nothing of it was stored."""

    status = 400
    code = "malformed"


class UnauthorizedError(RequestError):
    """No key, a wrong key, a revoked key, or a key of another kind."""

    status = 401
    code = "unauthorized"


class NotFoundError(RequestError):
    """There is no such profile, session or page."""

    status = 404
    code = "not_found"


class TooLargeError(RequestError):
    """The body is over the limit, as sent or once inflated."""

    status = 413
    code = "too_large"


class TooManyRequestsError(RequestError):
    """The key has sent more than it may; the same request may be sent again later and is stored once.

    Args:
        wait: Seconds until then.
    """

    status = 429
    code = "too_many_requests"

    def __init__(self, message: str, detail: str, *, wait: int) -> None:
        super().__init__(message, detail)
        self.retry_after = wait


class UnavailableError(RequestError):
    """Postgres is away; the same request may be sent again and is stored once."""

    status = 503
    code = "unavailable"
    retry_after = 1
