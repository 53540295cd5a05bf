"""Every error the SDK raises on purpose.

AnalyticsError
├── ConfigError      a setting is missing or makes no sense; raised when a client is made
├── EventError       an event was not accepted; raised by `track()` only with `strict=True`
└── ReaderError      a profile, session or event could not be read
    ├── UnreachableError    the collector does not answer
    └── AnswerError         the collector answers with an error
"""

from __future__ import annotations


class AnalyticsError(Exception):
    """Something the SDK noticed and can name."""


class ConfigError(AnalyticsError, ValueError):
    """A setting is missing or makes no sense."""


class EventError(AnalyticsError, ValueError):
    """An event was not accepted.

    Attributes:
        reason: One of `Stats.refused`'s keys.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ReaderError(AnalyticsError):
    """A profile, session or event could not be read."""


class UnreachableError(ReaderError):
    """The collector does not answer."""


class AnswerError(ReaderError):
    """The collector answers with an error.

    Attributes:
        status: The HTTP status.
        code: The collector's word for it, for instance "unauthorized".
        detail: What was wrong and what to do, in the collector's words.
    """

    def __init__(self, status: int, code: str, message: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {message}" + (f" ({detail})" if detail else ""))
        self.status = status
        self.code = code
        self.detail = detail
