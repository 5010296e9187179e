"""A JSON body from the wire: its type, its bytes, its syntax; large ones are handled beside the event loop."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from aiohttp import web

from downloader.errors import RequestError

BODY_TIMEOUT_S = 60.0
BESIDE_THE_LOOP_BYTES = 128 * 1024
# How many bodies of the largest size may be on their way at once; a slow sender needs no least speed then, for what
# it can hold is bounded in bytes here and in time by BODY_TIMEOUT_S.
LARGEST_AT_ONCE = 4
PARSER = web.AppKey("parser", ThreadPoolExecutor)

T = TypeVar("T")


@dataclass(slots=True)
class BodyRoom:
    """The bytes of all large bodies that are being read or parsed in this process, and how many there may be."""

    most_bytes: int
    _held_bytes: int = 0

    @contextmanager
    def place(self) -> Iterator[Callable[[int], None]]:
        """Yield what is told of each piece that comes in; RequestError `unavailable` when there is no room for it."""
        own_bytes = 0

        def take(size: int) -> None:
            nonlocal own_bytes
            own_bytes += size
            self._held_bytes += size
            if own_bytes > BESIDE_THE_LOOP_BYTES and self._held_bytes > self.most_bytes:
                raise RequestError("unavailable", "Too many large bodies are arriving; try again.", retry_after_s=2)

        try:
            yield take
        finally:
            self._held_bytes -= own_bytes


BODY_ROOM = web.AppKey("body_room", BodyRoom)
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


async def read_json(request: web.Request, use: Callable[[Any], T]) -> T:
    """Read the body, parse it and give the value to `use`, which computes only.

    Raises RequestError: `unsupported_media_type`, `body_timeout`, `invalid_json`, `unavailable` when too much is
    being read, and what `use` raises.
    """
    _expect_json(request.content_type)
    with request.app[BODY_ROOM].place() as take:
        body = await _read(request, take)
        if len(body) <= BESIDE_THE_LOOP_BYTES:
            return use(parse(body))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(request.app[PARSER], lambda: use(parse(body)))


async def _read(request: web.Request, take: Callable[[int], None]) -> bytes:
    """The whole body; a client that leaves is a RequestPayloadError, one that sends too much a 413."""
    most, body = request.client_max_size, bytearray()
    if (request.content_length or 0) > most:  # refused before it comes
        raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=request.content_length or 0)
    patience = nullcontext() if request.content.is_eof() else asyncio.timeout(BODY_TIMEOUT_S)  # most are there already
    try:
        async with patience:
            while piece := await request.content.readany():
                take(len(piece))
                body += piece
                if len(body) > most:
                    raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=len(body))
    except TimeoutError as error:
        raise RequestError("body_timeout", f"The body must arrive within {BODY_TIMEOUT_S:.0f} s.") from error
    return bytes(body)


def _expect_json(content_type: str) -> None:
    """Only JSON is taken: a form or a plain text could be sent by any web page without asking (CORS)."""
    if content_type != "application/json" and not content_type.endswith("+json"):
        raise RequestError("unsupported_media_type", "Send the body as JSON, with Content-Type: application/json.")


def parse(body: bytes) -> Any:
    """Parse strict JSON: real Unicode, no NaN or Infinity, no name twice in one object (RFC 8259, sections 4 and 8)."""
    try:
        value = json.loads(
            body.decode("utf-8-sig"), object_pairs_hook=_object, parse_float=_number, parse_constant=_constant
        )
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


def _number(text: str) -> int | float:
    """A number with a point or an exponent; a whole one is the same whether it is written 2 or 2.0."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
