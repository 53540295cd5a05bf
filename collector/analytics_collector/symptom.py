"""What is wrong with Postgres, in words that anybody may read: its own name hosts, users and files."""

from __future__ import annotations

from typing import Final

import attrs
import psycopg


@attrs.frozen
class Symptom:
    """What somebody finds who looks at the database.

    Attributes:
        message: What is wrong, in one sentence.
        advice: What to look at.
    """

    message: str
    advice: str


AWAY: Final = Symptom("The database is away", "does it run, and is it where ANALYTICS_DATABASE_URL says?")
READ_ONLY: Final = Symptom("The database only reads", "it is a standby, or default_transaction_read_only is on")
SILENT: Final = Symptom("The database does not answer", "is it stopped, overloaded, or cut off?")
_UNMIGRATED: Final = Symptom("The database has not all of our tables", "run `analytics-collector migrate`")
_FULL: Final = Symptom("The database has no connection left", "raise max_connections, or find out who has them all")
_NO_LOGIN: Final = Symptom("The database does not let this role in", "see user and password, and pg_hba.conf")
_NO_DATABASE: Final = Symptom("There is no database of this name", "was it renamed, or is it still to be restored?")
_STARTING: Final = Symptom("The database is starting or stopping", "it takes as long as its recovery does")

_BY_SQLSTATE: Final = {
    "25006": READ_ONLY,
    "42P01": _UNMIGRATED,
    "42703": _UNMIGRATED,
    "42501": Symptom("The database does not let this role look", "run `analytics-collector doctor`"),
    "53100": Symptom("The disk of the database is full", "make room for it, or drop partitions of old months"),
    "53200": Symptom("The database has no memory left", "see its work_mem and the machine's memory"),
    "53300": _FULL,
    "55P03": Symptom("Somebody holds a lock for long", "see pg_locks for who it is"),
    "57014": Symptom("A statement took too long", "is the database overloaded, or a list without `since`?"),
    "57P03": _STARTING,
}
_BY_CLASS: Final = {
    "40": Symptom("Transactions are in each other's way again and again", "who else writes to these tables?"),
    "53": Symptom("The database lacks resources", "its log says which"),
    "57": _STARTING,
    "58": Symptom("The disk of the database has errors", "see the machine's log, and the last backup"),
}
# libpq has no SQLSTATE for an attempt to connect. In another language than English it is just `AWAY`.
_BY_WORDS: Final = {
    "too many clients already": _FULL,
    "too many connections for": _FULL,
    "remaining connection slots are reserved": _FULL,
    "password authentication failed": _NO_LOGIN,
    "no password supplied": _NO_LOGIN,
    "no pg_hba.conf entry": _NO_LOGIN,
    "is not permitted to log in": _NO_LOGIN,
    "permission denied for database": _NO_LOGIN,
    "is starting up": _STARTING,
    "is shutting down": _STARTING,
    "in recovery mode": _STARTING,
    "not yet accepting connections": _STARTING,
    "not currently accepting connections": _NO_DATABASE,
}


def of(error: psycopg.Error) -> Symptom:
    """What an error of the driver is a symptom of."""
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return SILENT
    if error.sqlstate is not None:
        return _BY_SQLSTATE.get(error.sqlstate) or _BY_CLASS.get(error.sqlstate[:2], AWAY)
    said = str(error)
    if 'database "' in said and "does not exist" in said:
        return _NO_DATABASE
    if 'role "' in said and "does not exist" in said:
        return _NO_LOGIN
    return next((symptom for words, symptom in _BY_WORDS.items() if words in said), AWAY)
