"""What is logged, and what never is."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from downloader.config import LogSettings
from downloader.logs import MASK, redact_text, set_up

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Put the logging of the test run back."""
    root, ours = logging.getLogger(), logging.getLogger("downloader")
    before = (root.handlers[:], root.level, ours.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def lines() -> Lines:
    """Log as a machine reads it, from debug on; gives the lines so far."""
    stream = io.StringIO()
    set_up(LogSettings(level="debug", format="json"), stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object(lines: Lines) -> None:
    """Event, level, logger, UTC time and the fields stand on one line, whatever the fields hold."""
    structlog.get_logger("downloader.work.fetch").info("part.retry", part=3, note="two\nlines", name="Übung.pdf")
    (line,) = lines()
    assert line["event"] == "part.retry"
    assert (line["level"], line["logger"], line["part"]) == ("info", "downloader.work.fetch", 3)
    assert (line["note"], line["name"]) == ("two\nlines", "Übung.pdf")
    assert line["timestamp"].endswith("Z")
    assert abs(datetime.fromisoformat(line["timestamp"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_what_is_bound_once_stands_on_every_line(lines: Lines) -> None:
    """A job's id is bound as a context variable and appears on library lines as well."""
    with structlog.contextvars.bound_contextvars(job_id="j-1"):
        structlog.get_logger("downloader.x").info("job.claimed")
        logging.getLogger("aiohttp.server").warning("odd")
    structlog.get_logger("downloader.x").info("job.none")
    assert [line.get("job_id") for line in lines()] == ["j-1", "j-1", None]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/a?X-Amz-Signature=abc&b=2", f"https://host/a?X-Amz-Signature={MASK}&b={MASK}"),
        ("get https://user:pw@host/a failed", f"get https://{MASK}@host/a failed"),
        ("redis://:hunter2@redis:6379/0", f"redis://{MASK}@redis:6379/0"),
        ("two: http://a/?k=v s3://b/c?k=v", f"two: http://a/?k={MASK} s3://b/c?k={MASK}"),
        ("https://host/a?opaque", f"https://host/a?{MASK}"),
        ("https://host/cb#access_token=abc", f"https://host/cb#access_token={MASK}"),
        ("https://host/path/file.zip", "https://host/path/file.zip"),
        ("no address: a=b&c=d", "no address: a=b&c=d"),
    ],
)
def test_urls_lose_what_may_be_secret(text: str, shown: str) -> None:
    """Userinfo and the values of query and fragment are masked wherever a URL stands in a text; the rest is legible."""
    assert redact_text(text) == shown


def test_no_field_carries_a_secret(lines: Lines) -> None:
    """Telling names and URLs are masked at any depth, in exceptions, tracebacks and library lines too."""
    log = structlog.get_logger("downloader.x")
    secret = "s3cr3t"
    url = f"https://u:{secret}@host/f?token={secret}"
    event = f"fetch {url}"
    log.info("a", url=url, urls=[url], nested={"headers": {"Authorization": secret}}, secret_access_key=secret)
    log.info(event, error=ValueError(url), raw=url.encode(), api_key=secret, cookie=secret)
    logging.getLogger("botocore.endpoint").error("failed: %s", url)
    log.error("b", exc_info=OSError(url))
    seen = json.dumps(lines())
    assert len(lines()) == 4
    assert secret not in seen
    assert "host/f" in seen
    assert "OSError" in lines()[3]["exception"]


def test_harmless_names_are_left_alone(lines: Lines) -> None:
    """A field is masked for what its name says, not for letters that it happens to hold; numbers are never secrets."""
    structlog.get_logger("downloader.x").info("a", monkey="m", keyword="k", tokens_left=3, job_id="j")
    (line,) = lines()
    assert (line["monkey"], line["keyword"], line["tokens_left"], line["job_id"]) == ("m", "k", 3, "j")


def test_libraries_speak_from_warning_on(lines: Lines) -> None:
    """Even at our debug level a library's debug and info lines stay out: botocore's hold signed requests."""
    logging.getLogger("botocore.auth").debug("signature")
    logging.getLogger("urllib3").info("connected")
    logging.getLogger("asyncio").warning("slow")
    structlog.get_logger("downloader.x").debug("ours")
    assert [line["event"] for line in lines()] == ["slow", "ours"]


def test_the_level_counts() -> None:
    """What lies below the configured level is not written."""
    stream = io.StringIO()
    set_up(LogSettings(level="warning", format="json"), stream)
    structlog.get_logger("downloader.x").info("quiet")
    structlog.get_logger("downloader.x").warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_people_get_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal `auto` writes for people: no JSON, coloured unless NO_COLOR asks for plain text."""
    stream = Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    set_up(LogSettings(), stream)
    structlog.get_logger("downloader.x").info("service.ready", url="http://a/?k=v")
    assert "service.ready" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()
    assert "=v" not in stream.getvalue()

    plain = Terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    set_up(LogSettings(), plain)
    structlog.get_logger("downloader.x").info("service.ready")
    assert "\x1b[" not in plain.getvalue()
    assert not plain.getvalue().startswith("{")


class Terminal(io.StringIO):
    """A stream that says a person is looking."""

    def isatty(self) -> bool:
        return True
