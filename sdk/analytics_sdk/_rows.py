"""What the collector would make of records: the rows, as far as one recording tells.

The rules are those of docs/wire-format.md: an event is one row by id and time, the first user seen in a session owns
it and its anonymous events, traits are merged.
"""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,4000}")

Row = dict[str, Any]


class Rows:
    """The rows that records make, one after the other.

    Attributes:
        events: By id and time.
        sessions: By session id; `started_at` is None as long as nothing tells it.
        users: By user id; only those of whom traits are known.
    """

    def __init__(self) -> None:
        self.events: dict[tuple[str, datetime], Row] = {}
        self.sessions: dict[str, Row] = {}
        self.users: dict[int | str, Row] = {}
        self._anonymous: dict[str, list[Row]] = {}  # the events of sessions that nobody owns yet

    def add(self, record: bytes) -> None:
        """Store a record.

        Args:
            record: JSON, as `track()` made it.
        """
        fields = msgspec.json.decode(record)
        if "event_id" in fields:
            self._add_event(fields)
        elif "traits" in fields:
            row = {"user_id": shown_user_id(fields["user_id"]), "traits": {}}
            self.users.setdefault(row["user_id"], row)["traits"] |= fields["traits"]
        else:
            self._add_session(fields)

    def _add_event(self, fields: Row) -> None:
        row = {
            "event_id": str(uuid.UUID(fields["event_id"])),
            "event_type": fields["event_type"],
            "session_id": fields.get("session_id") or "",
            "user_id": shown_user_id(fields.get("user_id")),
            "event_data": fields.get("event_data") or {},
            "created_at": _moment(fields["created_at"]),
            "ip_address": fields.get("ip_address"),
        }
        if self.events.setdefault((row["event_id"], row["created_at"]), row) is row and row["session_id"]:
            session = self._session(row["session_id"], row["created_at"])
            session["last_event_at"] = max(session["last_event_at"] or row["created_at"], row["created_at"])
            self._claim(session, row["user_id"])
            if row["user_id"] is None:
                row["user_id"] = session["user_id"]
            if row["user_id"] is None:
                self._anonymous.setdefault(row["session_id"], []).append(row)
            _end(session, None)

    def _add_session(self, fields: Row) -> None:
        started_at, ended_at = _moment(fields.get("started_at")), _moment(fields.get("ended_at"))
        session = self._session(fields["session_id"], started_at or ended_at)
        for name in ("user_agent", "referrer"):
            session[name] = session[name] or fields.get(name) or ""
        self._claim(session, shown_user_id(fields.get("user_id")))
        _end(session, ended_at)

    def _session(self, session_id: str, started_at: datetime | None) -> Row:
        """The row of a session, made if it is not there."""
        row = self.sessions.setdefault(
            session_id,
            {
                "session_id": session_id,
                "user_id": None,
                "started_at": started_at,
                "ended_at": None,
                "last_event_at": None,
                "user_agent": "",
                "referrer": "",
            },
        )
        if started_at is not None:
            row["started_at"] = min(row["started_at"] or started_at, started_at)
        return row

    def _claim(self, session: Row, user_id: int | str | None) -> None:
        """Give a session that nobody owns to a user, with its anonymous events."""
        if session["user_id"] is not None or user_id is None:
            return
        session["user_id"] = user_id
        for event in self._anonymous.pop(session["session_id"], []):
            event["user_id"] = user_id


def _end(session: Row, ended_at: datetime | None) -> None:
    """End a session; one that has ended and sees a later event ends later."""
    known = session["ended_at"] or ended_at
    if known is not None:
        session["ended_at"] = max(known, ended_at or known, session["last_event_at"] or known)


def shown_user_id(user_id: Any) -> Any:
    """A user id as the collector shows it: 42 and "42" are the same user."""
    if isinstance(user_id, uuid.UUID):
        return str(user_id)
    return int(user_id) if isinstance(user_id, str) and _INTEGER.fullmatch(user_id) else user_id


def _moment(text: str | None) -> Any:
    return None if text is None else msgspec.convert(text, datetime).astimezone(UTC)
