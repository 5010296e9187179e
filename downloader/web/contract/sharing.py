"""What several calls answer alike stands once in the document, among its components."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from http import HTTPStatus

from downloader.web.contract.schemas import Schema

PLACE = "#/components/responses/"


def shared(operations: Iterable[Schema]) -> Schema:
    """Put references in place of answers that occur more than once; gives these answers by name."""
    listed = list(operations)
    seen = Counter(_text(response) for operation in listed for _, response in _responses(operation))
    names: dict[str, str] = {}
    found: Schema = {}
    for operation in listed:
        for status, response in _responses(operation):
            text = _text(response)
            if seen[text] < 2:
                continue
            if text not in names:
                names[text] = _name(status, found)
                found[names[text]] = response
            operation["responses"][status] = {"$ref": PLACE + names[text]}
    return dict(sorted(found.items()))


def resolved(response: Schema, document: Schema) -> Schema:
    """The answer itself where a reference stands for it."""
    if "$ref" not in response:
        return response
    found: Schema = document["components"]["responses"][response["$ref"].removeprefix(PLACE)]
    return found


def _responses(operation: Schema) -> Iterator[tuple[str, Schema]]:
    yield from list(operation["responses"].items())


def _text(response: Schema) -> str:
    return json.dumps(response, sort_keys=True)


def _name(status: str, taken: Schema) -> str:
    """The status in words, with a number from the second such answer on."""
    words = HTTPStatus(int(status)).phrase.title().replace(" ", "")
    number = sum(name.rstrip("0123456789") == words for name in taken) + 1
    return words if number == 1 else f"{words}{number}"
