"""From pydantic's errors to faults that a caller can act on: a pointer into their own body, and a remedy."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel, to_snake
from pydantic_core import ErrorDetails

from downloader.errors import Fault


def faults_of(error: ValidationError, raw: Any, model: type[BaseModel]) -> tuple[Fault, ...]:
    """One fault per place, in the order of the body; pointers use the spelling that the caller used."""
    faults: dict[str, Fault] = {}
    names = _known_names(model)
    for detail in error.errors(include_url=False, include_input=False):
        pointer = pointer_to(detail["loc"], raw)
        faults.setdefault(pointer, Fault(pointer, _sentence(detail, names)))
    return tuple(faults.values())


def _known_names(model: type[BaseModel]) -> list[str]:
    """All field names of a model and of the models inside it."""
    names = []
    for name, info in model.model_fields.items():
        names.append(name if name.startswith(("file_", "source_")) else to_camel(name))
        for inner in (info.annotation, *_arguments(info.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                names += _known_names(inner)
    return names


def _arguments(annotation: Any) -> list[Any]:
    found = list(getattr(annotation, "__args__", ()))
    return found + [deeper for inner in found for deeper in _arguments(inner)]


def pointer_to(location: Sequence[int | str], raw: Any) -> str:
    """The JSON pointer (RFC 6901) of a location; it ends where the body does, since pydantic adds names of types."""
    pointer = ""
    for step in location:
        if isinstance(raw, list) and isinstance(step, int):
            raw = raw[step]
        elif isinstance(raw, dict):
            step = _spelling(str(step), raw)  # noqa: PLW2901  (the caller's own spelling)
            raw = raw.get(step)
        else:
            break
        pointer += "/" + _escaped(str(step))
    return pointer


def _spelling(name: str, raw: dict[Any, Any]) -> str:
    return next((spelling for spelling in (name, to_camel(name), to_snake(name)) if spelling in raw), name)


def _escaped(step: str) -> str:
    shown = step if len(step) <= 64 else step[:64] + "..."
    shown = shown.encode("utf-8", "backslashreplace").decode()
    return shown.replace("~", "~0").replace("/", "~1")


def _sentence(detail: ErrorDetails, names: list[str]) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return _unknown(str(detail["loc"][-1])[:64], names)
        case "missing":
            return "is required"
        case "string_unicode":
            return "must be valid Unicode text"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a JSON object"
        case "list_type":
            return "must be a JSON array"
        case _:
            message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
            return message.replace("should be", "must be")


def _unknown(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    if name in names or to_camel(name) in names:
        return "is given in two spellings, or does not belong here"
    return f"is not a known field; did you mean {near[0]}?" if near else "is not a known field"
