"""A JSON body from the wire: its type, its bytes, its syntax; large ones are handled beside the event loop."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

from aiohttp import web

from downloader.errors import RequestError

BODY_TIMEOUT_S = 60.0
BESIDE_THE_LOOP_BYTES = 128 * 1024
PARSER = web.AppKey("parser", ThreadPoolExecutor)

T = TypeVar("T")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


async def read_json(request: web.Request, use: Callable[[Any], T]) -> T:
    """Read the body, parse it and give the value to `use`, which computes only.

    Raises RequestError: `unsupported_media_type`, `body_timeout`, `invalid_json`, and what `use` raises.
    """
    _expect_json(request.content_type)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await request.read()
    except TimeoutError as error:
        raise RequestError("body_timeout", f"The body must arrive within {BODY_TIMEOUT_S:.0f} s.") from error
    if len(body) <= BESIDE_THE_LOOP_BYTES:
        return use(parse(body))
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(request.app[PARSER], lambda: use(parse(body)))


def _expect_json(content_type: str) -> None:
    """Only JSON is taken: a form or a plain text could be sent by any web page without asking (CORS)."""
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise RequestError("unsupported_media_type", "Send the body as JSON, with Content-Type: application/json.")


def parse(body: bytes) -> Any:
    """Parse strict JSON: real Unicode, no NaN or Infinity, no name twice in one object (RFC 8259, sections 4 and 8)."""
    try:
        value = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_constant)
        if _ESCAPED_SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise RequestError("invalid_json", "The body is nested too deeply.") from error
    except UnicodeDecodeError as error:
        raise RequestError("invalid_json", f"The body is not UTF-8: bad byte at {error.start}.") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise RequestError("invalid_json", f"The body is not JSON: {error.msg} at {place}.") from error
    except UnicodeEncodeError as error:
        raise RequestError("invalid_json", "The body has half a character (an unpaired surrogate).") from error
    except ValueError as error:  # a number of thousands of digits, or one of our own below
        raise RequestError("invalid_json", f"The body is not JSON: {error}.") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:64]!a} appears twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
