"""One call as it is documented: values that stand beside the route that serves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

JSON = "application/json"
EVENTS = "text/event-stream"
HTML = "text/html"
TEXT = "text/plain"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a call, with its JSON schema."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    schema: Mapping[str, Any]
    example: Any = None


@dataclass(frozen=True, slots=True)
class Link:
    """Another call that takes what this one answers; `values` are runtime expressions, or constants, by parameter."""

    name: str
    operation: str
    values: Mapping[str, str]
    description: str


@dataclass(frozen=True, slots=True)
class Content:
    """A body in one media type: its shape (a typed dictionary, or `str`), and a real example."""

    shape: Any
    media: str = JSON
    example: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no problem.

    Headers are names in `headers.HEADERS`, with a question mark where the answer may lack them.
    """

    status: int
    description: str
    contents: tuple[Content, ...] = ()
    headers: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """A call: its stable name, what it is for, what it takes, what it answers.

    `problems` are its own codes; those of access, limits and outages follow from its route.
    """

    name: str
    tag: Literal["Jobs", "Archives", "Service"]
    summary: str
    description: str
    answers: tuple[Answer, ...]
    parameters: tuple[Parameter, ...] = ()
    takes_body: bool = False
    problems: tuple[str, ...] = ()
