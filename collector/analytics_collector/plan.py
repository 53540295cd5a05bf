"""The tracking plan: which event types there are, and what their `event_data` has to be (JSON Schema, Draft 2020-12).

A TOML file, read once, at start. Judging is pure: bytes in, a code and a message out, or None.

Schemas are compiled by jsonschema-rs: 0.4 us for two properties and 2 us for ten nested objects, decoding included,
where the pure Python `jsonschema` takes 10 and 132. Its regular expressions take linear time, it fetches nothing from
anywhere, and its messages do not repeat the values, which may be personal.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

import attrs
import msgspec

from .exceptions import ConfigError

Unknown = Literal["allow", "reject"]
Complaint = tuple[str, str]
"""A code of `records.REASONS`, and a message for the person who sent the event."""

_LONGEST_MESSAGE: Final = 300  # characters; property names may be long
_WHERE_IT_IS_DESCRIBED: Final = "see docs/tracking-plan.md"
_data = msgspec.json.Decoder(dict[str, Any])


class Schema(Protocol):
    """A compiled JSON Schema."""

    def is_valid(self, instance: Any) -> bool:
        """Does it say yes?"""

    def iter_errors(self, instance: Any) -> Any:
        """All that it says against it."""


@attrs.frozen
class Plan:
    """What events are expected.

    Attributes:
        schemas: By event type; None for a type of which only the name is planned.
        unknown: What becomes of events of other types.
    """

    schemas: Mapping[str, Schema | None]
    unknown: Unknown = "allow"

    def judge(self, event_type: str, event_data: bytes) -> Complaint | None:
        """Compare one event with the plan.

        Args:
            event_type: As in the record.
            event_data: The JSON text of an object.

        Returns:
            None if it is as planned.
        """
        if event_type not in self.schemas:
            return self._judge_unknown(event_type)
        schema = self.schemas[event_type]
        if schema is None:
            return None
        try:
            data = _data.decode(event_data)
        except msgspec.DecodeError as error:  # of an event that came past the collector
            return "invalid_data", f"event_data: {error}"
        return None if schema.is_valid(data) else ("invalid_data", _fault(schema, data))

    def _judge_unknown(self, event_type: str) -> Complaint | None:
        if self.unknown == "allow":
            return None
        return "unknown_event", f"event_type {event_type!r} is not in the tracking plan"


def load(path: Path) -> Plan:
    """Read a plan.

    Raises:
        ConfigError: The file, and in it the line or the key, that is wrong, and what to do.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The tracking plan {path} cannot be read: {error.strerror}. Mend ANALYTICS_PLAN.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"The tracking plan {path} is no TOML: {error}; {_WHERE_IT_IS_DESCRIBED}.") from None
    except _WrongKeyError as error:
        raise ConfigError(f"The tracking plan {path} is wrong: {error}; {_WHERE_IT_IS_DESCRIBED}.") from None


def parse(text: str) -> Plan:
    """Read the text of a plan.

    Raises:
        tomllib.TOMLDecodeError: It is no TOML; the message has line and column.
        ValueError: A key is wrong; the message begins with the key.
    """
    document = tomllib.loads(text)
    _check_keys("", document, {"unknown", "events"})
    unknown = document.get("unknown", "allow")
    if unknown not in ("allow", "reject"):
        raise _WrongKeyError("unknown", f'must be "allow" or "reject", not {unknown!r}')
    events = document.get("events", {})
    _check_table("events", events)
    return Plan({name: _schema(name, event) for name, event in events.items()}, unknown)


class _WrongKeyError(ValueError):
    """A key of the file is wrong."""

    def __init__(self, key: str, fault: str) -> None:
        super().__init__(f"{key} {fault}")


def _schema(event_type: str, event: Any) -> Schema | None:
    key = f"events.{event_type}"
    _check_table(key, event)
    _check_keys(f"{key}.", event, {"description", "schema"})
    if not 1 <= len(event_type) <= 50:
        raise _WrongKeyError(key, f"has {len(event_type)} characters; an event type has 1 to 50")
    if not isinstance(event.get("description", ""), str):
        raise _WrongKeyError(f"{key}.description", "must be text")
    if "schema" not in event:
        return None
    _check_json(f"{key}.schema", event["schema"])
    return _compile(f"{key}.schema", event["schema"])


def _compile(key: str, schema: Any) -> Schema:
    try:
        import jsonschema_rs
    except ModuleNotFoundError:
        raise ConfigError(
            "A tracking plan with schemas needs jsonschema-rs. Install it with: pip install 'analytics-sdk[plan]'"
        ) from None
    try:
        compiled = jsonschema_rs.Draft202012Validator(
            schema,
            mask="the value",
            validate_formats=True,
            offline=True,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except jsonschema_rs.ValidationError as error:
        where = "".join(f".{part}" for part in error.instance_path)
        raise _WrongKeyError(f"{key}{where}", f"is no JSON Schema: {error.message}") from None
    return cast("Schema", compiled)


def _fault(schema: Schema, data: Any) -> str:
    first = next(iter(schema.iter_errors(data)))
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first.instance_path)
    message = f"event_data{where}: {first.message}"
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[: _LONGEST_MESSAGE - 3]}..."


def _check_table(key: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise _WrongKeyError(key, f"must be a table, not {value!r}")


def _check_keys(prefix: str, table: Mapping[str, Any], known: set[str]) -> None:
    for name in table.keys() - known:
        raise _WrongKeyError(f"{prefix}{name}", f"is not known here; there may be {' and '.join(sorted(known))}")


def _check_json(key: str, value: Any) -> None:
    """TOML has dates, infinity and not-a-number; JSON has not."""
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            _check_json(f"{key}.{name}", inner)
    elif not isinstance(value, str | int | float) or value in (float("inf"), float("-inf")) or value != value:
        raise _WrongKeyError(key, f"is {value}, which JSON does not have; write it as text")
