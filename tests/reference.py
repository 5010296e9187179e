"""Writes the pages of the documentation that are made from the code: `python -m tests.reference`."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from downloader.config import Settings
from downloader.settings import ENV_PREFIX, sections, toml_value
from downloader.web.contract.codes import CODES, Code
from tests.pages import DOCS

_CARRIERS = {"problem": "an answer", "job": "a job", "file": "a missing file"}
_MADE = "<!-- Made from the code by `python -m tests.reference`; do not edit. -->\n"


def errors() -> str:
    """docs/errors.md: one section for each code."""
    return "\n".join(_errors())


def _errors() -> Iterator[str]:
    yield f"""# Errors

{_MADE}
Every refusal is JSON, `application/problem+json` (RFC 9457). Its `code` is stable and may be programmed against;
`detail` says what happened this time, and `errors` lists each fault of the request. How to handle them stands in
[the API guide](api.md#errors). Jobs that end without an archive have an `errorCode`, and files that are missing have an
`error.code`, from the same list. A running service explains each at `/errors/CODE`, where a problem's `type` leads.

Codes of an answer (the number is its HTTP status):
"""
    yield from _list("problem")
    yield "\nCodes of a job (`errorCode` in its status and in its last event):\n"
    yield from _list("job")
    yield "\nCodes of a missing file (`error.code`); [sources.md](sources.md#codes) has them by cause:\n"
    yield from _list("file")
    for code in CODES.values():
        yield from _code(code)
    yield ""


def _list(kind: str) -> Iterator[str]:
    of_kind = [code for code in CODES.values() if kind in code.kinds]
    for code in sorted(of_kind, key=lambda code: (code.status if kind == "problem" else None) or 0):
        number = f"{code.status} " if kind == "problem" else ""
        yield f"- {number}[`{code.name}`](#{code.name})"


def _code(code: Code) -> Iterator[str]:
    carriers = " and of ".join(_CARRIERS[kind] for kind in code.kinds)
    number = f", HTTP status {code.status}" if code.status else ""
    yield f"\n## {code.name}\n\n{code.title}. The code of {carriers}{number}.\n"
    yield f"- **What it means:** {code.meaning}\n- **What to do:** {code.remedy}"


def configuration() -> str:
    """docs/configuration.md: every key of every section."""
    return "\n".join(_configuration())


def _configuration() -> Iterator[str]:
    yield f"""# Configuration

{_MADE}
Every key has a default, so the service starts without a file. Settings are read in this order, and the last one counts:

1. `config.toml` in the working directory, or the file given by `--config FILE`
2. the environment: `{ENV_PREFIX}SECTION__KEY`, or `{ENV_PREFIX}SECTION__KEY_FILE` with the path of a file that
   holds the value (for secrets that are mounted as files)
3. flags: `--set section.key=value`

An unknown key, or a value that cannot be, ends the start with one line that names the key, the place and the remedy.
[`config.toml`](../config.toml) has the same keys to copy from. Lists in the environment and in flags are separated by
commas or written as JSON; lists of tables are JSON. What is in effect, secrets masked:

```sh
downloader config
```
"""
    for name, section in sections(Settings()):
        yield f"- [`[{name}]`](#{name}): {_first(section)}"
    for name, section in sections(Settings()):
        yield from _section(name, section)
    yield ""


def _first(section: BaseModel) -> str:
    return (type(section).__doc__ or "").strip()


def _section(name: str, section: BaseModel) -> Iterator[str]:
    yield f"\n## {name}\n\n{_first(section)}\n"
    yield "| key | type | default | what it is | environment |\n|---|---|---|---|---|"
    fields = type(section).model_fields
    for key, field in fields.items():
        default = "none" if _table(field) else _code_of(toml_value(_plain(getattr(section, key))))
        variable = f"`{ENV_PREFIX}{name.upper()}__{key.upper()}`"
        yield f"| `{key}` | {_type(field)} | {default} | {_cell(field.description)} | {variable} |"
    for key, field in fields.items():
        if (model := _table(field)) is not None:
            yield f"\n### `[[{name}.{key}]]`\n\n| key | type | default | what it is |\n|---|---|---|---|"
            for inner, one in model.model_fields.items():
                yield f"| `{inner}` | {_type(one)} | {_inner_default(one)} | {_cell(one.description)} |"


def _inner_default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    return "as for all" if field.default is None else _code_of(toml_value(_plain(field.default)))


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _code_of(text: str) -> str:
    return f"`{_cell(text)}`"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _table(field: FieldInfo) -> type[BaseModel] | None:
    items = get_args(field.annotation)
    is_table = get_origin(field.annotation) is list and isinstance(items[0], type) and issubclass(items[0], BaseModel)
    return items[0] if is_table else None


_NAMES: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    SecretStr: "secret",
}


def _type(field: FieldInfo) -> str:
    kind = "list of tables" if _table(field) else _kind(field.annotation)
    bounds = [_bound(part) for part in field.metadata]
    return f"{kind}{''.join(bounds)}"


def _kind(annotation: Any) -> str:
    origin, items = get_origin(annotation), get_args(annotation)
    if annotation in _NAMES:
        return _NAMES[annotation]
    if origin is Literal:
        return "one of " + ", ".join(f"`{toml_value(item)}`" for item in items)
    if origin is list:
        return f"list of {_kind(items[0])}s" if items[0] is not str else "list of texts"
    if origin is dict:
        return "table"
    if isinstance(annotation, types.UnionType):
        return " or ".join(_kind(item) for item in items if item is not type(None))
    return _kind(items[0])


def _bound(part: Any) -> str:
    for name, words in (("ge", "from"), ("gt", "above"), ("le", "to")):
        value = getattr(part, name, None)
        if value is not None and value != 2**53:
            return f", {words} {value}"
    return ""


PAGES: Mapping[str, Callable[[], str]] = {"configuration.md": configuration, "errors.md": errors}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
