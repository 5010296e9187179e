"""Loads the settings, once: flags before environment before file before defaults.

Whatever is wrong ends in a ConfigError of one line that names the key, the place it came from and the remedy.
"""

from __future__ import annotations

import difflib
import os
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, from_json

from downloader.config import Settings
from downloader.errors import ConfigError

DEFAULT_FILE = "config.toml"
ENV_PREFIX = "DOWNLOADER_"
FILE_SUFFIX = "_FILE"
# What the commands that call a service read from the environment; they are no settings of a service.
CLIENT_VARIABLES = frozenset({"DOWNLOADER_URL", "DOWNLOADER_KEY", "DOWNLOADER_KEY_FILE"})
MASK = "********"

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Given:
    """A value and where it came from, for the error line."""

    value: Any
    place: str


def load(
    config_path: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    files: bool = True,
) -> Settings:
    """The effective settings; `overrides` are flags by dotted key, as text.

    A `config_path` that is given must exist; without one, `config.toml` of the working directory is read if there
    is one and `files` allows it. Raises ConfigError.
    """
    given: dict[Key, _Given] = {}
    if files:
        given.update(_from_file(config_path))
    given.update(_from_environment(environment))
    given.update(_from_flags(overrides or {}))
    return _checked(given)


def show(settings: Settings) -> str:
    """The settings as TOML with secrets masked."""
    lines = []
    for name, section in sections(settings):
        lines.append(f"[{name}]")
        tables = []
        for key in type(section).model_fields:
            value = getattr(section, key)
            if not value or _table_model(type(section).model_fields[key]) is None:
                lines.append(f"{key} = {toml_value(_masked(value))}")
            else:
                tables += [(f"{name}.{key}", row) for row in value]
        for heading, row in tables:
            lines += ["", f"[[{heading}]]"]
            lines += [f"{key} = {toml_value(_masked(getattr(row, key)))}" for key in type(row).model_fields]
        lines.append("")
    return "\n".join(lines)


def reference() -> str:
    """The documented `config.toml`: every key with its description and its default, commented out.

    Commented, because a file that sets a default by name would hide a better one of a later version.
    """
    lines = [
        "# The settings of the downloader, each with its default. Take the # off a line to change it.",
        "#",
        "# Read from here (or the file given with --config), then from the environment: DOWNLOADER_SECTION__KEY, then",
        "# from flags; the last one counts. DOWNLOADER_SECTION__KEY_FILE names a file with the value, for secrets.",
        "# `python -m downloader config` shows what is in effect, `config --reference` prints this file.",
        "",
    ]
    for name, section in sections(Settings()):
        lines += [*_comment((type(section).__doc__ or "").strip()), f"[{name}]"]
        tables = []
        for key, field in type(section).model_fields.items():
            if (model := _table_model(field)) is not None:
                tables += [*_comment(_described(field)), f"#[[{name}.{key}]]", *_example(model)]
            else:
                lines += [*_comment(_described(field)), f"#{key} = {toml_value(getattr(section, key))}"]
        lines += [*tables, ""]
    return "\n".join(lines[:-1]) + "\n"


def _example(model: type[BaseModel]) -> list[str]:
    """One table of a list of tables: its keys with their descriptions and defaults, all commented out."""
    lines = []
    for key, field in model.model_fields.items():
        default = "" if field.is_required() else field.default
        value = toml_value(field.examples[0] if default is None and field.examples else default)
        lines += [*_comment(_described(field)), f"#{key} = {value}"]
    return lines


def _table_model(field: FieldInfo) -> type[BaseModel] | None:
    """The section of which the field is a list; None for any other field."""
    items = get_args(field.annotation)
    if get_origin(field.annotation) is list and isinstance(items[0], type) and issubclass(items[0], BaseModel):
        return items[0]
    return None


def _described(field: FieldInfo) -> str:
    """The description of a key, with the values it takes where these are few."""
    if get_origin(field.annotation) is not Literal:
        return field.description or ""
    return f"{field.description} One of {', '.join(map(toml_value, get_args(field.annotation)))}."


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 118, initial_indent="# ", subsequent_indent="# ")


def sections(settings: Settings) -> Iterator[tuple[str, BaseModel]]:
    """The sections by name, in order."""
    for name in Settings.model_fields:
        yield name, getattr(settings, name)


def toml_value(value: object) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(toml_value(item) for item in value)}]"
        case dict():
            pairs = ", ".join(f"{_toml_string(str(key))} = {toml_value(item)}" for key, item in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case SecretStr():
            return toml_value(value.get_secret_value())
        case _:
            return _toml_string(str(value))


def _toml_string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\u{ord(found[0]):04x}", escaped) + '"'


def _masked(value: object) -> object:
    match value:
        case SecretStr():
            return MASK if value.get_secret_value() else ""
        case dict():
            return {key: _masked(item) for key, item in value.items()}
        case str():
            shown = re.sub(r"(?<=://)([^/@:]*):[^/]*@", rf"\1:{MASK}@", value)
            return re.sub(r"(?i)(?<=[?&])(\w*password)=[^&]*", rf"\1={MASK}", shown)
        case _:
            return value


def _from_file(config_path: Path | None) -> dict[Key, _Given]:
    path = config_path or Path(DEFAULT_FILE)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if config_path is None:
            return {}
        raise ConfigError(f"{path}: no such file; give the path of a config.toml, or leave out --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({_reason(error)}); check its path and permissions") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f'{path}: is not TOML: {error}; quote texts and write lists as ["a", "b"]') from error
    return _flattened(table, str(path))


def _flattened(table: Mapping[str, Any], place: str) -> dict[Key, _Given]:
    given: dict[Key, _Given] = {}
    for section, keys in table.items():
        if section not in Settings.model_fields:
            raise _unknown(section, place, Settings.model_fields)
        if not isinstance(keys, dict):
            raise ConfigError(f"{section} ({place}): is a section; write [{section}] and its keys below")
        for key, value in keys.items():
            given[_known(section, key, place)] = _Given(value, place)
    return given


def _from_environment(environment: Mapping[str, str]) -> dict[Key, _Given]:
    given: dict[Key, _Given] = {}
    for variable in sorted(environment):
        if not variable.upper().startswith(ENV_PREFIX) or variable in CLIENT_VARIABLES:
            continue
        key, from_file = _key_of_variable(variable)
        if key in given:
            raise ConfigError(f"{_dotted(key)} (environment): is given twice; drop {variable} or its other spelling")
        text = _secret_file(variable, environment[variable]) if from_file else environment[variable]
        given[key] = _Given(_read(key, text, f"environment {variable}"), f"environment {variable}")
    return given


def _key_of_variable(variable: str) -> tuple[Key, bool]:
    """The key a variable stands for, and whether its value is the path of a file that holds the real one."""
    names = {_variable(key): key for key in _keys()}
    upper = variable.upper()
    if upper in names:
        return names[upper], False
    key = names.get(upper.removesuffix(FILE_SUFFIX))
    if key is not None:
        return key, True
    raise _unknown(variable, "environment", names)


def _variable(key: Key) -> str:
    return f"{ENV_PREFIX}{key[0]}__{key[1]}".upper()


def _secret_file(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{variable} (environment): cannot read {path} ({_reason(error)})") from error


def _from_flags(overrides: Mapping[str, str]) -> dict[Key, _Given]:
    given: dict[Key, _Given] = {}
    for dotted, text in overrides.items():
        section, _, name = dotted.partition(".")
        if section not in Settings.model_fields or not name:
            raise _unknown(dotted, "flag", [_dotted(key) for key in _keys()])
        key = _known(section, name, "flag")
        given[key] = _Given(_read(key, text, "flag"), "flag")
    return given


def _read(key: Key, text: str, place: str) -> Any:
    """A text from the environment or a flag as the value it stands for; lists are JSON or separated by commas."""
    if get_origin(_field(key).annotation) is not list:
        return text
    if not text.lstrip().startswith("[") and _table_model(_field(key)) is None:
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return from_json(text)
    except ValueError as error:
        raise ConfigError(f"{_dotted(key)} ({place}): is not a list; {_list_remedy(key)}") from error


def _list_remedy(key: Key) -> str:
    return 'write a,b or ["a", "b"]' if _table_model(_field(key)) is None else 'write JSON: [{"name": "..."}]'


def _checked(given: Mapping[Key, _Given]) -> Settings:
    table: dict[str, dict[str, Any]] = {}
    for (section, key), item in given.items():
        table.setdefault(section, {})[key] = item.value
    try:
        return Settings.model_validate(table)
    except ValidationError as error:
        raise ConfigError(_line(error.errors(), given)) from None


def _line(faults: list[ErrorDetails], given: Mapping[Key, _Given]) -> str:
    """The first key's faults as one line; the value itself is shown unless it is a secret."""
    where = tuple(str(part) for part in faults[0]["loc"][:2])
    within = ".".join(str(part) for part in faults[0]["loc"][2:])
    says = " or ".join(_lowered(fault["msg"]) for fault in faults if tuple(map(str, fault["loc"][:2])) == where)
    if len(where) < 2:
        places = sorted({item.place for item in given.values()})
        return f"{where[0] if where else 'settings'} ({', '.join(places) or 'default'}): {says}"
    key = (where[0], where[1])
    place = given[key].place if key in given else "default"
    if _table_model(_field(key)) is not None:  # what stands in a table may be a secret under a wrong name
        return (
            f"{_dotted(key)}{f'[{within}]' if within else ''} ({place}): {says}; see {DEFAULT_FILE} for what it takes"
        )
    shown = "" if _is_secret(_field(key)) else f"; it is {_masked(_shortened(faults[0]['input']))!r}"
    return f"{_dotted(key)} ({place}): {says}{shown}; see {DEFAULT_FILE} for what it takes"


def _lowered(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _shortened(value: object) -> object:
    return value if not isinstance(value, str) or len(value) <= 80 else value[:77] + "..."


def _known(section: str, key: str, place: str) -> Key:
    names = _section_model(section).model_fields
    if key not in names:
        raise _unknown(f"{section}.{key}", place, [f"{section}.{name}" for name in names])
    return section, key


def _unknown(name: str, place: str, names: Mapping[str, object] | list[str]) -> ConfigError:
    near = difflib.get_close_matches(name.upper() if place == "environment" else name, list(names), 1, 0.5)
    remedy = f"did you mean {near[0]}?" if near else f"see {DEFAULT_FILE} for all keys"
    return ConfigError(f"{name} ({place}): there is no such key; {remedy}")


def _keys() -> list[Key]:
    return [(section, key) for section in Settings.model_fields for key in _section_model(section).model_fields]


def _section_model(section: str) -> type[BaseModel]:
    model = Settings.model_fields[section].annotation
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{section} is no section")
    return model


def _field(key: Key) -> FieldInfo:
    return _section_model(key[0]).model_fields[key[1]]


def _is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr


def _dotted(key: Key) -> str:
    return ".".join(key)


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8 text"
