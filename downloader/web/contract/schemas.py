"""The JSON schemas of the document: of answers by the typed dictionaries they are, of the request by its models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from downloader.callbacks import Message
from downloader.config import Settings
from downloader.web import shapes
from downloader.web.bodies import InitiateBody
from downloader.web.contract.operation import EVENTS, JSON, Content

Schema = dict[str, Any]
PLACE = "#/components/schemas/"
_SUFFIXES = {"Object": "", "Body": "Request"}
_COMMON = ("archiveName", "options", "callbackUrl")
# The forms of the body by name: what each is for, its required names and the others; by their names in the model.
_FORMS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "FilesRequest": ("A list of files.", ("files",), _COMMON),
    "IdsRequest": (
        "Ids, and their URLs position by position.",
        ("fileIds", "sourceUrls"),
        _COMMON,
    ),
    "SnakeCaseRequest": (
        "The same in snake_case. `file_keys` is an older name of `file_ids`.",
        ("file_ids", "source_urls"),
        ("archiveName", "options", "callback_url"),
    ),
}
_OF_SNAKE = {"file_ids": "fileIds", "source_urls": "sourceUrls", "callback_url": "callbackUrl"}


class _Untitled(GenerateJsonSchema):
    """Leaves out the titles that only say a field's name once more."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  (pydantic's signature)
        return False


class Schemas:
    """The schemas of all shapes: where a content's stands, and all that go into the document's components."""

    def __init__(self, contents: Iterable[Content], settings: Settings) -> None:
        used = [content.shape for content in contents if content.media == JSON]
        wanted = [*used, shapes.ProblemObject, Message, *shapes.EVENTS.values()]
        adapters = [(number, "validation", TypeAdapter(shape)) for number, shape in enumerate(wanted)]
        made, rest = TypeAdapter.json_schemas(
            adapters,  # type: ignore[arg-type]  # a list is no more than it takes
            ref_template=PLACE + "{model}",
            schema_generator=_Untitled,
        )
        self._of = [(shape, _renamed(made[number, "validation"])) for number, shape in enumerate(wanted)]
        self.components: Schema = _renamed(rest.get("$defs", {}), names=True) | _request(settings)

    def of(self, content: Content) -> Schema:
        """The schema of a body; for a stream of events, of each event."""
        if content.media == EVENTS:
            return {"oneOf": [self._event(name, shape) for name, shape in shapes.EVENTS.items()]}
        return self._shape(content.shape) if content.media == JSON else {"type": "string"}

    def _shape(self, shape: Any) -> Schema:
        found: Schema = next(schema for known, schema in self._of if known == shape)
        return found

    def _event(self, name: str, shape: Any) -> Schema:
        """One event as its parsed fields (WHATWG HTML, section 9.2), `data` as the JSON in it."""
        data = {"type": "string", "contentMediaType": JSON, "contentSchema": self._shape(shape)}
        has_id = name not in {"reset", "busy"}
        return {
            "title": name,
            "type": "object",
            "required": ["event", "data", *(["id"] if has_id else [])],
            "properties": {"event": {"const": name}, "data": data}
            | ({"id": {"type": "string", "pattern": "^[0-9]+-[0-9]+$"}} if has_id else {}),
        }


def _new_name(name: str) -> str:
    for suffix, instead in _SUFFIXES.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix) + instead
    return name


def _renamed(schema: Any, *, names: bool = False) -> Any:
    """The schema with its references by the names of the document; `names`: its own keys are such names."""
    if isinstance(schema, list):
        return [_renamed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {}
    for key, value in schema.items():
        if key == "$ref":
            found[key] = PLACE + _new_name(value.removeprefix(PLACE))
        else:
            found[_new_name(key) if names else key] = _renamed(value)
    return found


def _request(settings: Settings) -> Schema:
    """The forms of the initiate body, closed each, with this service's limits."""
    model = InitiateBody.model_json_schema(ref_template=PLACE + "{model}", schema_generator=_Untitled)
    parts: Schema = _renamed(model.pop("$defs"), names=True)
    parts["FileRequest"]["properties"]["size"]["anyOf"][0]["maximum"] = settings.jobs.max_file_bytes
    known = {name: _renamed(schema) for name, schema in model["properties"].items()}
    forms = {name: _form(known, *form, settings) for name, form in _FORMS.items()}
    return parts | forms | {"InitiateRequest": {"oneOf": [{"$ref": PLACE + name} for name in forms]}}


def _form(
    known: Schema, description: str, required: tuple[str, ...], others: tuple[str, ...], settings: Settings
) -> Schema:
    properties: Schema = {}
    for name in (*required, *others):
        schema = dict(known[_OF_SNAKE.get(name, name)])
        if name in required:  # null would be the same as nothing, which is not allowed here
            del schema["default"]
            array = schema.pop("anyOf")[0]
            schema |= array | {"minItems": 1, "maxItems": settings.jobs.max_files}
        properties[name] = schema
    by_template = settings.sources.url_template and "files" not in required
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": list(required[:1] if by_template else required),
        "additionalProperties": False,
    }
