"""The OpenAPI 3.1 document, made from the table of routes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.alias_generators import to_camel

from downloader.config import Settings
from downloader.web.contract import examples, headers
from downloader.web.contract.callback import callbacks
from downloader.web.contract.codes import CODES
from downloader.web.contract.operation import Answer, Content, Operation, Parameter
from downloader.web.contract.schemas import PLACE, Schema, Schemas
from downloader.web.contract.sharing import shared
from downloader.web.route import Budget, Need, Route

PROBLEM = "application/problem+json"
PROBLEM_HEADERS = ("X-Request-Id", "Cache-Control")
INTRODUCTION = """\
Post a list of URLs, get one ZIP archive. `POST /v1/download/initiate` answers at once with the job's id; follow the job
by its event stream or its status, then download the archive.

JSON in camelCase; times in ISO 8601, UTC. Fields and events may be added, so pass over those you do not know. Every
GET but the event stream answers HEAD too. Problems are `application/problem+json` (RFC 9457): `code` is stable, `type`
leads to a page that explains it.

Callers show a key as `Authorization: Bearer dl_...`. Links that such a caller is given carry a read token of their job,
so that an EventSource and a plain link work without the header."""
TAGS = {
    "Jobs": "Start, follow, end.",
    "Archives": "What a job has made.",
    "Service": "The service itself.",
}
SECURITY_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "dl_...",
        "description": "A key of your tenant. The operator makes it by `downloader keys new TENANT`.",
    },
    "token": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "The read token of one job, as it stands in the job's links.",
    },
}


def path_of(route: Route) -> str:
    """The route's path as a template: without aiohttp's patterns, names in camelCase."""
    return re.sub(r"\{(\w+)(?::[^{}]*)?\}", lambda match: f"{{{to_camel(match[1])}}}", route.path)


def document(routes: Iterable[Route], settings: Settings, version: str) -> Schema:
    """The whole document; the same routes, settings and version give the same one."""
    told = [(route, route.doc) for route in routes]
    schemas = Schemas((content for _, doc in told for answer in doc.answers for content in answer.contents), settings)
    paths: defaultdict[str, Schema] = defaultdict(dict)
    for route, doc in told:
        paths[path_of(route)][route.method.lower()] = _operation(route, doc, schemas, settings)
    responses = shared(operation for methods in paths.values() for operation in methods.values())
    codes = sorted({code for route, doc in told for code in codes_of(route, doc)})
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "downloader",
            "version": version,
            "summary": "Collects files from many URLs and hands back one ZIP archive.",
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "This service."}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": dict(paths),
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": responses,
            "headers": {name: _header(name) for name in headers.HEADERS},
            "examples": {code: _problem_example(code) for code in codes},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def codes_of(route: Route, doc: Operation) -> list[str]:
    """Every code the call can answer: its own, and what follows from who may call it and what it is charged to."""
    found = {*doc.problems, "internal"}
    if route.need is Need.MACHINE:
        found.add("key_required")
    elif route.need is not Need.NOTHING:
        found |= {"key_required", "key_invalid", "rate_limited", "unavailable"}
    if route.need is Need.READ:
        found.add("token_invalid")
    if route.need is Need.ADMIN:
        found.add("admin_required")
    return sorted(found, key=lambda code: (CODES[code].status or 0, code))


def _operation(route: Route, doc: Operation, schemas: Schemas, settings: Settings) -> Schema:
    body: Schema = {
        "operationId": doc.name,
        "tags": [doc.tag],
        "summary": doc.summary,
        "description": doc.description,
        "security": _security(route, settings),
    }
    if doc.parameters:
        body["parameters"] = [_parameter(parameter) for parameter in doc.parameters]
    if doc.takes_body:
        body["requestBody"] = _request_body()
        body["callbacks"] = callbacks()
    responses = {str(answer.status): _answer(answer, schemas) for answer in doc.answers}
    for status, codes in _by_status(codes_of(route, doc)).items():
        problem = _problem(status, codes, route)
        responses[str(status)] = _beside(responses[str(status)], problem) if str(status) in responses else problem
    return body | {"responses": dict(sorted(responses.items()))}


def _security(route: Route, settings: Settings) -> list[Schema]:
    """What must be shown, any one of it; `{}` is nothing, where the service is open."""
    if route.need in {Need.NOTHING, Need.MACHINE}:
        return []
    ways: list[Schema] = [{"key": []}]
    if route.need is Need.READ:
        ways.append({"token": []})
    return ways if settings.access.open is False or route.need is Need.ADMIN else [*ways, {}]


def _parameter(parameter: Parameter) -> Schema:
    body: Schema = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }
    if parameter.place == "path":
        body["required"] = True
    if parameter.example is not None:
        body["example"] = parameter.example
    return body


def _request_body() -> Schema:
    named = {name: {"summary": summary, "value": value} for name, (summary, value) in examples.REQUESTS.items()}
    schema = {"$ref": PLACE + "InitiateRequest"}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": named}}}


def _answer(answer: Answer, schemas: Schemas) -> Schema:
    body: Schema = {"description": answer.description, "headers": _headers((*answer.headers, "X-Request-Id"))}
    if answer.contents:
        body["content"] = {content.media: _content(content, schemas) for content in answer.contents}
    if answer.links:
        body["links"] = {
            link.name: {
                "operationId": link.operation,
                "parameters": dict(link.values),
                "description": link.description,
            }
            for link in answer.links
        }
    return body


def _content(content: Content, schemas: Schemas) -> Schema:
    body: Schema = {"schema": schemas.of(content)}
    if content.example is not None:
        body["example"] = content.example
    return body


def _headers(names: Iterable[str]) -> Schema:
    """References to the headers; one that an answer may lack is described in place, since it is not required."""
    found: Schema = {}
    for name in sorted(names):
        bare = name.removesuffix("?")
        found[bare] = {"$ref": f"#/components/headers/{bare}"} if bare == name else _header(bare, required=False)
    return found


def _header(name: str, *, required: bool = True) -> Schema:
    description, schema = headers.HEADERS[name]
    return {"description": description, "required": required, "schema": dict(schema)}


def _by_status(codes: Iterable[str]) -> Mapping[int, list[str]]:
    found: defaultdict[int, list[str]] = defaultdict(list)
    for code in codes:
        found[CODES[code].status or 0].append(code)
    return found


def _problem(status: int, codes: list[str], route: Route) -> Schema:
    extra: tuple[str, ...] = {
        401: ("WWW-Authenticate",),
        409: ("Retry-After?",),
        429: ("Retry-After", *headers.RATES),
        503: ("Retry-After",),
    }.get(status, ())
    if route.budget is not Budget.NONE and status not in {401, 403, 429, 503}:
        extra += headers.RATES
    narrowed = {"properties": {"status": {"const": status}, "code": {"enum": codes}}}
    return {
        "description": "; ".join(f"`{code}`: {CODES[code].title}" for code in codes) + ".",
        "headers": _headers((*PROBLEM_HEADERS, *extra)),
        "content": {
            PROBLEM: {
                "schema": {"allOf": [{"$ref": PLACE + "Problem"}, narrowed]},
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
            }
        },
    }


def _beside(answer: Schema, problem: Schema) -> Schema:
    """An answer and a problem of one status: readyz says 503 in its own way, and so may whatever fails around it."""
    return answer | {"content": answer.get("content", {}) | problem["content"]}


def _problem_example(code: str) -> Schema:
    known = CODES[code]
    value: Any = examples.problem(code, known.status or 0, known.title, f"{known.meaning} {known.remedy}")
    return {"summary": known.title, "value": value}
