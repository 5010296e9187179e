"""What an example must be, by its language: how each is looked at without running it, and compared when it has run."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema_rs
import typer
import yaml
from botocore.session import get_session
from botocore.validate import validate_parameters
from kubernetes_validate import validate as validate_manifest
from typer.main import get_command

from downloader.cli import app
from downloader.settings import load
from tests.pages import ROOT, Block
from tests.sessions import objects

# Words that sell or scold and say nothing.
EMPTY_WORDS = re.compile(
    r"\b(simply|easily|easy|obviously|powerful|seamless(?:ly)?|robust|leverage|utili[sz]e|blazing|effortless(?:ly)?|"
    r"world-class|cutting-edge|please note|state-of-the-art|best-in-class|game-chang\w+)\b",
    re.IGNORECASE,
)
# The words behind the language, by language. `output`: what the block before it says. `elsewhere`: needs what no test
# has (Docker, root, a cluster), so that it is only looked at. `file=NAME`: is a file of that name for the other blocks.
WORDS: Mapping[str, set[str]] = {
    "sh": {"elsewhere"},
    "python": {"elsewhere"},
    "js": {"elsewhere", "node"},
    "json": {"output", "policy", "lifecycle", "part"},
    "sse": {"output"},
    "text": {"output"},
    "toml": set(),
    "yaml": {"elsewhere"},
    "ini": set(),
    "nginx": set(),
    "caddyfile": set(),
    "html": {"elsewhere"},
    "css": set(),
}


def fault(block: Block, folder: Path) -> str | None:
    """What is wrong with a block as it stands, None if nothing is."""
    if block.language not in WORDS:
        return f"unknown language; known are {', '.join(WORDS)}"
    known = WORDS[block.language] | (set(schemas()) if block.language == "json" else set())
    unknown = [word for word in block.words if word not in known and not re.fullmatch(r"file=[\w.-]+", word)]
    if unknown:
        return f"unknown words: {' '.join(unknown)}"
    try:
        LOOKS[block.language](block, folder)
    except Exception as error:  # noqa: BLE001 - whatever a parser says against it
        return f"{type(error).__name__}: {error}"
    return None


@lru_cache
def schemas() -> dict[str, Any]:
    """The shapes of the API by name."""
    return dict(json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))["components"]["schemas"])


@lru_cache
def events() -> dict[str, Any]:
    """The shapes of the events' data by the event's name."""
    document = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
    told = document["paths"]["/v1/download/subscribe/{jobId}"]["get"]["responses"]["200"]["content"]
    items = told["text/event-stream"]["schema"]["oneOf"]
    return {item["title"]: item["properties"]["data"]["contentSchema"] for item in items}


def _judge(schema: Mapping[str, Any], value: Any) -> None:
    whole = {**schema, "components": {"schemas": schemas()}}
    jsonschema_rs.Draft202012Validator(whole).validate(value)


def _json(block: Block, _: Path) -> None:
    value = objects(block.text)
    match [word for word in block.words if not word.startswith("file=")]:
        case ["output"]:
            pass
        case ["policy"]:
            _policy(value[0])
        case ["lifecycle"]:
            model = get_session().get_service_model("s3").operation_model("PutBucketLifecycleConfiguration")
            assert model.input_shape is not None
            validate_parameters({"Bucket": "b", "LifecycleConfiguration": value[0]}, model.input_shape)
        case ["part", name]:
            _judge({key: part for key, part in schemas()[name].items() if key != "required"}, value[0])
        case [name]:
            _judge(schemas()[name], value[0])
        case _:
            raise ValueError(f"say what it shows: output, policy, lifecycle, or one of {', '.join(schemas())}")


def _policy(value: Any) -> None:
    assert value["Version"] == "2012-10-17"
    for statement in value["Statement"]:
        assert statement.keys() <= {"Sid", "Effect", "Action", "Resource", "Principal", "Condition"}
        assert all(re.fullmatch(r"(s3|kms):[A-Z]\w+", action) for action in statement["Action"])


def _sse(block: Block, _: Path) -> None:
    for event, data in frames(block.text):
        _judge(events()[event], data)


def frames(text: str) -> list[tuple[str, Any]]:
    """The events in the text of a stream, each with its data."""
    found = re.findall(r"^event: (\w+)\n(?:id: [\w-]+\n)?data: (.*)$", text, re.MULTILINE)
    assert found, "no event in it"
    return [(event, json.loads(data)) for event, data in found]


def _shell(block: Block, _: Path) -> None:
    subprocess.run(["bash", "-n"], input=block.text, check=True, text=True, capture_output=True)
    for words in commands(block.text):
        if words[:1] == ["downloader"]:
            _known(words[1:])
        else:
            assert importlib.util.find_spec(words[0]), f"there is no {words[0]}"


def commands(script: str) -> Iterator[list[str]]:
    """The calls of the program (`downloader ...`) and of our own modules (`tests.NAME ...`) in a script."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a quotation over several lines is no call of ours
            continue
        yield from filter(None, map(_ours, _segments(words)))


def _segments(words: list[str]) -> Iterator[list[str]]:
    """The words of a line's single commands."""
    current: list[str] = []
    for word in words:
        if set(word) <= set("|&;()<>"):
            yield current
            current = []
        else:
            current.append(word)
    yield current


def _ours(words: list[str]) -> list[str] | None:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words and words[0].rpartition("/")[2] in {"python", "python3"} and words[1:2] == ["-m"]:
        words = words[2:]
        return words if words[0] == "downloader" or words[0].startswith("tests.") else None
    return ["downloader", *words[1:]] if words and words[0].rpartition("/")[2] == "downloader" else None


def _known(words: list[str]) -> None:
    """Refuse a command of the program that is none, or a flag that it does not take."""
    command: Any = get_command(app)
    while words and isinstance(command, typer.core.TyperGroup) and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    for word in words:
        if word.startswith("-") and word != "-":
            name = word.partition("=")[0]
            assert name in flags or name[:2] in flags, f"no flag {name}"


def _python(block: Block, _: Path) -> None:
    compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def _toml(block: Block, folder: Path) -> None:
    """A setting of ours can be pasted into config.toml."""
    tomllib.loads(block.text)
    path = folder / "shown.toml"
    path.write_text(block.text, encoding="utf-8")
    load(path, environment={})


def _yaml(block: Block, _: Path) -> None:
    for document in yaml.safe_load_all(block.text):
        if isinstance(document, dict) and {"apiVersion", "kind"} <= document.keys() and "elsewhere" not in block.words:
            validate_manifest(document, "1.31", strict=True)


def _ini(block: Block, _: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block.text)
    assert parser.sections()


def _nginx(block: Block, folder: Path) -> None:
    """A whole file, or what stands in `http`, in `server` or deeper; hosts are not looked up."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        return
    text = re.sub(r"\b(?!127)[a-z][\w.-]*:(\d{2,5})\b(?=[;\s])", r"127.0.0.1:\1", block.text)
    first = re.sub(r"#.*", "", text).split()[0]
    if first in {"location", "proxy_pass", "proxy_buffering", "proxy_read_timeout", "client_max_body_size"}:
        text = f"server {{ listen 127.0.0.1:8081;\n{text}\n}}"
        first = "server"
    if first in {"server", "upstream", "map", "log_format"}:
        listed = "" if "upstream downloader" in text else "upstream downloader { server 127.0.0.1:8080; }\n"
        text = f"events {{}}\nhttp {{\n{listed}{text}\n}}"
    path = folder / "nginx.conf"
    path.write_text(f"pid {folder}/nginx.pid;\n{text}", encoding="utf-8")
    subprocess.run(
        [program, "-t", "-e", "stderr", "-p", str(folder), "-c", str(path)], check=True, capture_output=True, text=True
    )


def _balanced(block: Block, _: Path) -> None:
    depth = 0
    for sign in re.sub(r'"[^"\n]*"|#[^\n{}]*$', "", block.text, flags=re.MULTILINE):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0, "a } too many"
    assert depth == 0, "a { is left open"


class _Tags(HTMLParser):
    """Every tag that is opened is closed, in order."""

    EMPTY = frozenset({"br", "hr", "img", "input", "link", "meta", "!doctype"})
    OPTIONAL = frozenset({"html", "head", "body", "p", "li"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.EMPTY | self.OPTIONAL:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.OPTIONAL:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag, f"</{tag}> is out of order"


def _html(block: Block, _: Path) -> None:
    tags = _Tags()
    tags.feed(block.text)
    tags.close()
    assert not tags.open, f"<{tags.open[-1]}> is left open"


def _free(block: Block, _: Path) -> None:
    assert block.text.strip(), "it is empty"


LOOKS: Mapping[str, Callable[[Block, Path], None]] = {
    "sh": _shell,
    "python": _python,
    "js": _balanced,
    "json": _json,
    "sse": _sse,
    "text": _free,
    "toml": _toml,
    "yaml": _yaml,
    "ini": _ini,
    "nginx": _nginx,
    "caddyfile": _balanced,
    "html": _html,
    "css": _balanced,
}


def compare(block: Block, said: str) -> None:
    """What a block shows has the shape of what was really `said`."""
    match block.language:
        case "json":
            shown, real = objects(block.text), objects(said)
            assert len(shown) <= len(real), f"{block}\n{said}"
            for one in shown:
                assert any(_alike(one, other) for other in real), f"{block}\nshown: {one}\nreal: {said}"
        case "sse":
            real_frames = frames(said)
            for event, data in frames(block.text):
                real_data = [other for name, other in real_frames if name == event]
                assert any(_alike(_common(data, other), _common(other, data)) for other in real_data), (
                    f"{block}\n{said}"
                )
        case _:
            shown_text = re.escape(_masked(block.text)).replace(r"\.\.\.", ".*")
            assert re.search(shown_text, _masked(said), re.DOTALL), f"{block}\n{said}"


def _alike(shown: Any, real: Any) -> bool:
    """Of one shape: the same names, and values of the same kind; null stands for whatever is not known.

    What kind of event an object is, it says by a word, which must be the same.
    """
    if isinstance(shown, dict) and isinstance(real, dict):
        is_same = shown.keys() == real.keys() and shown.get("event") == real.get("event")
        return is_same and all(_alike(shown[key], real[key]) for key in shown)
    if isinstance(shown, list) and isinstance(real, list):
        return all(any(_alike(one, other) for other in real) for one in shown)
    return shown is None or real is None or isinstance(shown, type(real)) or isinstance(real, type(shown))


def _common(event: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What both have: an event leaves out what is not known; its schema says what it must have."""
    return {key: value for key, value in event.items() if key in other}


def _masked(text: str) -> str:
    """A text without what differs from run to run: ids, keys, addresses, figures, widths."""
    text = re.sub(r"dl_[a-z0-9]{12}_[\w-]{8,}", "KEY", text)
    text = re.sub(r"https?://[^\s\"']+", "URL", text)
    text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "ID", text)
    text = re.sub(r"\b(?=[a-z]*\d)[0-9a-f]{8,}\b", "HEX", text)
    text = re.sub(r"\d+(?:[.:,-]\d+)*", "N", text)
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())
