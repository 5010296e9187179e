"""Logging: structlog, for the libraries' lines too; for people on a console, else one JSON object per line.

`job_id` and `request_id` are bound once, as structlog context variables, and stand on every line from there on. No
line carries a secret: `redact` masks what is under a telling name and what a URL holds beside its address.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from downloader.errors import ConfigError
from downloader.observing import AUDIT

MASK = "********"

# A name that holds one of these words as a part of its own: `api_key` does, `monkey` does not.
_TELLING = re.compile(
    r"(?i)(?:^|[^a-z])(?:authorization|cookies?|set-cookie|token|secret|password|passwd|credentials?|signature"
    r"|api[_-]?key|access[_-]?key|private[_-]?key)(?:$|[^a-z])|(?:secret|token|password)$"
)
# Our own keys and secrets, wherever they stand: API keys (`keys.py`) and webhook secrets.
_OURS = re.compile(r"dl_([a-z0-9]{12})_[A-Za-z0-9_-]{43}|whsec_[A-Za-z0-9+/=]{16,}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>\\]+")
_USERINFO = re.compile(r"(?<=://)[^/?#]*@")
# One parameter of a query or fragment: its name and "=" stay, its value goes; one without "=" goes whole.
_PARAMETER = re.compile(r"([?&#;])([^?&#;=]*=)?[^?&#;]+")
# The longest text that is searched for URLs; whatever is longer is cut, for a log line is not a place for documents.
TEXT_MAX = 16_384


class Wishes(Protocol):
    """What is asked of `LogSettings`, and of whatever stands in for it."""

    @property
    def level(self) -> str:
        """The least level that is logged."""

    @property
    def format(self) -> str:
        """For people, for machines, or by who is looking."""

    @property
    def audit_file(self) -> str:
        """The file of the audit log, empty for none."""


@dataclass(frozen=True, slots=True)
class ErrorsOnly:
    """For a command that has something else to say, and no settings: loading these takes longer than the command."""

    level: str = "error"
    format: str = "auto"
    audit_file: str = ""


def set_up(settings: Wishes, stream: TextIO | None = None, *, audit: bool = False) -> None:
    """Send all logging of the process to `stream` (stderr when not given); call it once, at the door.

    `format = "auto"` asks whether a person is looking. Our own lines appear from `settings.level` on, those of
    libraries from warning on: at debug level, botocore writes whole signed requests. The audit log passes whatever the
    level is when it has a file of its own, or when `audit` asks for it.
    """
    stream = stream or sys.stderr
    console = settings.format == "console" or (settings.format == "auto" and stream.isatty())
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        # What passes for the audit log's sake is stopped by the loggers of all others.
        wrapper_class=structlog.make_filtering_bound_logger(
            "info" if (audit or settings.audit_file) and settings.level != "debug" else settings.level
        ),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *_shared()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_ending(console, stream)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(__package__).setLevel(settings.level.upper())
    logging.captureWarnings(capture=True)
    _set_up_audit(settings, always=audit or bool(settings.audit_file))


def _set_up_audit(settings: Wishes, *, always: bool) -> None:
    """Give the audit log its file, if it is to have one; rotated from outside, it is opened anew."""
    audit = logging.getLogger(AUDIT)
    for handler in audit.handlers[:]:
        audit.removeHandler(handler)
        handler.close()
    audit.propagate = not settings.audit_file
    audit.setLevel(logging.INFO if always else logging.NOTSET)
    if not settings.audit_file:
        return
    try:
        file = logging.handlers.WatchedFileHandler(settings.audit_file, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"log.audit_file: cannot be written ({error.strerror or error}); check its folder") from error
    as_json = _ending(console=False, stream=sys.stderr)
    file.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *as_json]
        )
    )
    audit.addHandler(file)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask secrets in every field of a line: by the field's name, and inside any URL of any text."""
    return {key: MASK if _tells(key, value) else _clean(value) for key, value in event.items()}


def redact_text(text: str) -> str:
    """The text with our own keys, and the userinfo and all query values of each URL in it masked."""
    if len(text) > TEXT_MAX:
        text = text[:TEXT_MAX] + "..."
    if "dl_" in text or "whsec_" in text:
        text = _OURS.sub(lambda found: f"dl_{found[1]}_{MASK}" if found[1] else f"whsec_{MASK}", text)
    return _URL.sub(lambda found: _redact_url(found[0]), text) if "://" in text else text


def _redact_url(url: str) -> str:
    bare = _USERINFO.sub(f"{MASK}@", url)
    return _PARAMETER.sub(lambda found: f"{found[1]}{found[2] or ''}{MASK}", bare)


def _tells(key: str, value: object) -> bool:
    return bool(value) and not isinstance(value, bool | int | float) and _TELLING.search(key) is not None


def _clean(value: object) -> object:
    match value:
        case str():
            return redact_text(value)
        case bytes():
            return redact_text(value.decode("utf-8", "backslashreplace"))
        case Mapping():
            return {str(key): MASK if _tells(str(key), item) else _clean(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(item) for item in value]
        case BaseException():
            return redact_text(f"{type(value).__name__}: {value}")
        case _:
            return value


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _ending(console: bool, stream: TextIO) -> list[Processor]:
    """Tracebacks become text before redaction, so that a URL inside one is masked too."""
    if console:
        colours = stream.isatty() and not os.environ.get("NO_COLOR")
        return [structlog.processors.format_exc_info, redact, structlog.dev.ConsoleRenderer(colors=colours)]
    return [
        structlog.processors.format_exc_info,
        redact,
        _in_order,
        structlog.processors.JSONRenderer(default=_plain, ensure_ascii=False),
    ]


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: event[name] for name in ("timestamp", "level", "event") if name in event} | dict(event)


def _plain(value: object) -> str:
    return redact_text(str(value))
