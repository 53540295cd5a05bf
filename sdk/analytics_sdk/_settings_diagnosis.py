"""What the doctor makes of the settings: pure decisions, facts in, findings out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ._config import Config, make_config, variable
from ._finding import Finding
from .exceptions import ConfigError

_OTHER_VARIABLES: Final = frozenset({"ANALYTICS_READ_KEY", "ANALYTICS_MAX_BODY_BYTES"})  # and no slips of the pen


class Settings(msgspec.Struct, frozen=True):
    """The settings as far as they are usable.

    Attributes:
        config: With what a client would have; defaults in the place of what is not usable.
        given: The names of those that were given and make sense.
        findings: What is to be said of them.
    """

    config: Config
    given: frozenset[str]
    findings: tuple[Finding, ...]

    def text(self, name: str) -> str:
        """A setting's value if it was given and makes sense, else the empty text."""
        return str(getattr(self.config, name)) if name in self.given else ""


def judge_settings(options: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Read the settings as a client does, but each by itself, so that all that is wrong is said at once.

    Args:
        options: Arguments; None counts as not given.
        environ: The environment.
    """
    problems: list[Finding] = []
    good_options: dict[str, Any] = {}
    good_environ: dict[str, str] = {}
    for name in Config.__struct_fields__:
        option = {name: options[name]} if options.get(name) is not None else {}
        text = {variable(name): environ[variable(name)]} if environ.get(variable(name)) and not option else {}
        try:
            make_config(option, text, needs_collector=False)
        except ConfigError as error:
            problems.append(Finding("fail", "settings", str(error)))
        else:
            good_options |= option
            good_environ |= text
    config = make_config(good_options, good_environ, needs_collector=False)
    given = [name for name in Config.__struct_fields__ if name in good_options or variable(name) in good_environ]
    told = ", ".join(f"{name}={_told(name, getattr(config, name))}" for name in given)
    summary = [Finding("ok", "settings", told)] if told else []
    findings = (*summary, *problems, *_judge_required(options, environ), *_judge_rest(config, environ))
    return Settings(config, frozenset(given), findings)


def _told(name: str, value: Any) -> str:
    if name == "write_key":
        return "(given)"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _judge_required(options: Mapping[str, Any], environ: Mapping[str, str]) -> Iterable[Finding]:
    for name, what in (("url", "where the collector is"), ("write_key", "a key of kind write")):
        if options.get(name) is None and not environ.get(variable(name)):
            advice = f"{what}: set {variable(name)}, or pass {name}=... to init() and --{name.replace('_', '-')} to me"
            yield Finding("fail", "settings", f"no {name} is given", advice)


def _judge_rest(config: Config, environ: Mapping[str, str]) -> Iterable[Finding]:
    for name in sorted(environ):
        if (meant := suspect(name)) is not None:
            yield Finding("warn", "settings", f"{name} is no setting", f"did you mean {meant}?")
    if not config.enabled:
        yield Finding("warn", "settings", "enabled is false: nothing is tracked", "set ANALYTICS_ENABLED=true")
    if config.strict:
        yield Finding("warn", "settings", "strict is true: track() raises", "that is for development only")
    if config.write_key[:1] == config.write_key[-1:] and config.write_key[:1] in ("'", '"'):
        yield Finding("warn", "settings", "the write key is in quotes", "take them away: as it is they belong to it")


def suspect(name: str) -> str | None:
    """The setting that a variable was probably meant to be; None if it is one, or nothing like one."""
    known = {variable(field) for field in Config.__struct_fields__}
    if name in known | _OTHER_VARIABLES or not name.upper().startswith("ANALYTIC"):
        return None
    return next(iter(difflib.get_close_matches(name.upper(), sorted(known), n=1, cutoff=0.9)), None)
