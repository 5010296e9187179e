"""A JSON schema in the words of people."""

from __future__ import annotations

from typing import Any

from downloader.web.contract import markup
from downloader.web.contract.schemas import PLACE, Schema


def name_of(schema: Schema) -> str:
    """The name of the shape that a schema refers to."""
    return str(schema["$ref"]).removeprefix(PLACE)


def type_of(schema: Schema) -> str:
    """The type as HTML: `string (uuid)`, `array of File`, `integer, from 1 to 200, or null`; shapes are links."""
    if "$ref" in schema:
        name = name_of(schema)
        return f'<a href="#{markup.escaped(name)}">{markup.escaped(name)}</a>'
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(type_of(one) for one in schema[several])
    if "const" in schema:
        return f"<code>{markup.escaped(_json(schema['const']))}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{markup.escaped(_json(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {type_of(schema.get('items', {}))}{_limits(schema)}"
    return markup.escaped(schema.get("type", "anything")) + _limits(schema)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else markup.indented(value)


def _limits(schema: Schema) -> str:
    said = []
    if schema.get("format") in {"uuid", "date-time", "uri", "uri-reference"}:
        said.append(schema["format"])
    for least, most, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " entries"),
        ("minProperties", "maxProperties", " entries"),
    ):
        if (text := _range(schema.get(least), schema.get(most))) is not None:
            said.append(text + unit)
    return f" <small>({markup.escaped(', '.join(said))})</small>" if said else ""


def _range(least: int | None, most: int | None) -> str | None:
    if most is None:
        return None if least is None else f"{least:,} or more"
    return f"at most {most:,}" if least is None else f"{least:,} to {most:,}"


def fields(schema: Schema) -> str:
    """The properties of an object as a table."""
    required = set(schema.get("required", ()))
    rows = []
    for name, inner in schema.get("properties", {}).items():
        mark = "" if name in required else "<br><small>optional</small>"
        rows.append((f"<code>{markup.escaped(name)}</code>{mark}", type_of(inner), said(inner)))
    return markup.table(("Field", "Type", "Meaning"), rows)


def said(schema: Schema) -> str:
    """What a schema says of itself, with its default, as HTML."""
    text = markup.inline(schema.get("description") or _inner_description(schema))
    default = schema.get("default")
    if default is None or isinstance(default, dict):
        return text
    return f"{text} <small>Default: <code>{markup.escaped(_json(default))}</code>.</small>"


def _inner_description(schema: Schema) -> str:
    """The description of the alternative that has one: that of what may also be null."""
    return next((one["description"] for one in schema.get("anyOf", ()) if "description" in one), "")
