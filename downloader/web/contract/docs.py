"""The page of documentation: the OpenAPI document for people, with calls to copy that reach this very service."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from downloader.web.contract import markup, types
from downloader.web.contract.callback import WHEN
from downloader.web.contract.codes import CODES
from downloader.web.contract.document import PROBLEM
from downloader.web.contract.operation import EVENTS
from downloader.web.contract.schemas import Schema
from downloader.web.contract.sharing import resolved

_KINDS = {"problem": "answers", "job": "jobs", "file": "files"}


def page(document: Schema, base: str) -> str:
    """The whole page; `base` is the address that reaches this service."""
    return markup.page("downloader: documentation", "\n".join(_parts(document, base)))


def _parts(document: Schema, base: str) -> Iterator[str]:
    info = document["info"]
    yield '<a class="skip" href="#calls">Skip to the calls</a>'
    yield f"<h1>downloader <small>{markup.escaped(info['version'])}</small></h1>"
    yield markup.prose(info["description"])
    yield '<p>For programs: <a href="/openapi.json">openapi.json</a>. <a href="/">Front page</a>.</p>'
    yield _contents(document)
    yield '<main id="calls">'
    yield markup.prose("In the calls below `$job` is a job's id, and `$key` is your key where one is needed.")
    for tag in document["tags"]:
        yield f'<h2 id="{markup.escaped(tag["name"])}">{markup.escaped(tag["name"])}</h2>'
        for method, path, operation in _operations(document, tag["name"]):
            yield _section(method, path, operation, base, document["components"]["schemas"])
    yield '<h2 id="shapes">Shapes</h2>'
    for name, schema in document["components"]["schemas"].items():
        yield _shape(name, schema)
    yield '<h2 id="codes">Codes</h2>'
    yield _codes()
    yield "</main>"
    yield "<footer>Made from the table of routes that serves the calls; no other server is asked for anything.</footer>"


def _operations(document: Schema, tag: str) -> Iterator[tuple[str, str, Schema]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                responses = {status: resolved(one, document) for status, one in operation["responses"].items()}
                yield method.upper(), path, operation | {"responses": responses}


def _contents(document: Schema) -> str:
    items = "\n".join(
        f'<li><span class="method">{method}</span><a href="#{operation["operationId"]}">'
        f"{markup.escaped(operation['summary'])}</a></li>"
        for tag in document["tags"]
        for method, _, operation in _operations(document, tag["name"])
    )
    more = '<li><a href="#shapes">Shapes</a></li>\n<li><a href="#codes">Codes</a></li>'
    return f'<nav aria-label="Calls"><ul>\n{items}\n{more}\n</ul></nav>'


def _section(method: str, path: str, operation: Schema, base: str, schemas: Schema) -> str:
    name = markup.escaped(operation["operationId"])
    return "\n".join(
        part
        for part in (
            f'<section aria-labelledby="{name}">',
            f'<h3 id="{name}">{markup.escaped(operation["summary"])}</h3>',
            f'<p><span class="method">{method}</span><code>{markup.escaped(path)}</code></p>',
            markup.prose(operation["description"]),
            f"<p><small>{_who(operation)}</small></p>",
            markup.code(curl(method, path, operation, base)),
            _parameters(operation.get("parameters", [])),
            _body(operation.get("requestBody"), schemas),
            _answers(operation["responses"]),
            _callback(operation.get("callbacks")),
            "</section>",
        )
        if part
    )


def _who(operation: Schema) -> str:
    security: list[Schema] = operation["security"]
    if not security:
        return "Anybody may call." if "401" not in operation["responses"] else "Takes calls from its own machine only."
    words = {"key": "a key", "token": "the job's read token"}
    ways = [words.get("".join(way), "nothing, where the service is open") for way in security]
    return f"Takes {' or '.join(ways)}."


def curl(method: str, path: str, operation: Schema, base: str) -> str:
    """The call for a shell, where `$job` is a job's id and `$key` a key."""
    words = ["curl -sS"]
    if EVENTS in operation["responses"].get("200", {}).get("content", {}):
        words = ["curl -sSN"]
    if "302" in operation["responses"]:
        words = ["curl -sSLOJ"]
    if method not in {"GET", "POST"} or (method == "POST" and "requestBody" not in operation):
        words.append(f"-X {method}")
    address = path.replace("{jobId}", "$job")
    for parameter in operation.get("parameters", []):
        address = address.replace(f"{{{parameter['name']}}}", str(parameter.get("example", "")))
    words.append(f'"{base}{address}"')
    if operation["security"] and {} not in operation["security"]:
        words.append('-H "Authorization: Bearer $key"')
    if "requestBody" in operation:
        example = next(iter(operation["requestBody"]["content"]["application/json"]["examples"].values()))
        words += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(json.dumps(example['value'], indent=2))}"]
    return " \\\n  ".join([" ".join(words[:2]), *words[2:]])


def _parameters(parameters: list[Schema]) -> str:
    return f"<h4>Parameters</h4>\n{_table(parameters)}" if parameters else ""


def _table(parameters: list[Schema]) -> str:
    rows = [
        (
            f"<code>{markup.escaped(parameter['name'])}</code><br><small>{parameter['in']}</small>",
            types.type_of(parameter["schema"]),
            types.said(parameter["schema"] | {"description": parameter["description"]}),
        )
        for parameter in parameters
    ]
    return markup.table(("Name", "Type", "Meaning"), rows)


def _body(body: Schema | None, schemas: Schema) -> str:
    if body is None:
        return ""
    content = body["content"]["application/json"]
    forms = [types.name_of(form) for form in schemas[types.name_of(content["schema"])]["oneOf"]]
    fields = "\n".join(
        markup.details(
            f"`{form}`: {schemas[form]['description']}", types.fields(schemas[form]), is_open=form == forms[0]
        )
        for form in forms
    )
    examples = "\n".join(
        markup.details(f"Example: {example['summary']}", markup.code(markup.indented(example["value"])))
        for example in content["examples"].values()
    )
    return f"<h4>Body</h4>\n<p>{types.type_of(content['schema'])}</p>\n{fields}\n{examples}"


def _callback(callbacks: Schema | None) -> str:
    if callbacks is None:
        return ""
    message = callbacks["jobEnded"][WHEN]["post"]
    content = message["requestBody"]["content"]["application/json"]
    example = markup.details("Example of the message", markup.code(markup.indented(content["example"])))
    shape = f"<p>{types.type_of(content['schema'])}</p>"
    text = markup.prose(message["description"])
    return f"<h4>The callback</h4>\n{text}\n{_table(message['parameters'])}\n{shape}\n{example}"


def _answers(responses: dict[str, Schema]) -> str:
    good, bad = [], []
    for status, response in responses.items():
        content = response.get("content", {})
        if set(content) != {PROBLEM}:
            headers = ", ".join(f"<code>{markup.escaped(name)}</code>" for name in response.get("headers", {}))
            good.append((status, markup.inline(response["description"]), headers))
        bad += [(status, code) for code in content.get(PROBLEM, {}).get("examples", {})]
    problems = [(markup.escaped(status), _code_link(code), markup.inline(CODES[code].title)) for status, code in bad]
    return "\n".join(
        (
            "<h4>Answers</h4>",
            markup.table(("Status", "Meaning", "Headers"), good),
            *(_contents_of(status, response) for status, response in responses.items()),
            markup.details("Problems", markup.table(("Status", "Code", "Meaning"), problems)),
        )
    )


def _contents_of(status: str, response: Schema) -> str:
    found = []
    for media, content in response.get("content", {}).items():
        if media == EVENTS:
            found.append(_events(content))
        elif media != PROBLEM and "example" in content:
            shape = f"<p>{types.type_of(content['schema'])}</p>\n"
            found.append(markup.details(f"Example: {status}", shape + markup.code(markup.indented(content["example"]))))
    return "\n".join(found)


def _events(content: Schema) -> str:
    rows = []
    for event in content["schema"]["oneOf"]:
        data = event["properties"]["data"]["contentSchema"]
        rows.append((f"<code>{markup.escaped(event['title'])}</code>", types.type_of(data)))
    return f"{markup.table(('Event', 'Data'), rows)}\n<h4>A transcript</h4>\n{markup.code(content['example'])}"


def _shape(name: str, schema: Schema) -> str:
    inner: Any = types.fields(schema) or f"<p>{types.type_of(schema)}</p>"
    heading = f'<h3 id="{markup.escaped(name)}">{markup.escaped(name)}</h3>'
    return f"{heading}\n{markup.prose(schema.get('description', ''))}\n{inner}"


def _code_link(name: str) -> str:
    return markup.link(f"/errors/{name}", name)


def _codes() -> str:
    rows = [
        (
            _code_link(code.name),
            "<br>".join(_KINDS[kind] for kind in code.kinds) + (f" ({code.status})" if code.status else ""),
            markup.inline(code.meaning),
        )
        for code in CODES.values()
    ]
    return markup.table(("Code", "Of", "Meaning"), rows)
