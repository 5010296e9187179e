"""What is told of the calls about the service itself."""

from __future__ import annotations

from downloader.web import shapes
from downloader.web.contract import examples
from downloader.web.contract.headers import IF_NONE_MATCH
from downloader.web.contract.operation import HTML, TEXT, Answer, Content, Operation, Parameter

_UNSAVED = ("Cache-Control",)
_PAGE = Content(str, HTML)
_KEPT = ("ETag", "Cache-Control")
_SAME = Answer(304, "You have it already.", (), _KEPT)

LIVEZ = Operation(
    "livez",
    "Service",
    "Whether the process lives",
    "For a supervisor, which restarts a process that does not answer.",
    (Answer(200, "It does.", (Content(shapes.Liveness, example={"status": "alive"}),), _UNSAVED),),
)
READYZ = Operation(
    "readyz",
    "Service",
    "Whether calls are welcome",
    "For a proxy. An outage of Redis or of the store does not count: the API answers those itself.",
    (
        Answer(200, "They are.", (Content(shapes.Readiness, example={"status": "ready"}),), _UNSAVED),
        Answer(503, "It starts or ends.", (Content(shapes.Readiness, example={"status": "draining"}),), _UNSAVED),
    ),
)
HEALTH = Operation(
    "health",
    "Service",
    "Each neighbour in detail",
    "For people and alarms; looked at no more often than every 5 seconds.",
    (
        Answer(200, "All is well.", (Content(shapes.HealthObject, example=examples.HEALTH),), _UNSAVED),
        Answer(503, "A neighbour is away.", (Content(shapes.HealthObject, example=examples.SICK),), _UNSAVED),
    ),
)
METRICS = Operation(
    "metrics",
    "Service",
    "Figures for Prometheus",
    "The figures of this process as Prometheus text or OpenMetrics, whichever is preferred; for calls from its own "
    "machine only. 404 where they are switched off or have a port of their own (telemetry.metrics_port).",
    (
        Answer(
            200,
            "The figures.",
            (Content(str, TEXT), Content(str, "application/openmetrics-text")),
            _UNSAVED,
        ),
    ),
    problems=("not_found",),
)
FRONT = Operation(
    "front",
    "Service",
    "The front page",
    "Where people paste links, follow their jobs and download; or a JSON document for programs that prefer it.",
    (
        Answer(
            200,
            "The page.",
            (_PAGE, Content(shapes.ServiceDocument, example=examples.SERVICE)),
            ("ETag?", "Cache-Control?"),
        ),
        _SAME,
    ),
    (IF_NONE_MATCH,),
)
MODULE = Operation(
    "elementModule",
    "Service",
    "The element for your own pages",
    "The JavaScript module that makes `<download-job>`, without dependencies, for pages of any site.",
    (Answer(200, "The module.", (Content(str, "text/javascript"),), _KEPT), _SAME),
    (IF_NONE_MATCH,),
)
TYPES = Operation(
    "elementTypes",
    "Service",
    "The element's types",
    "The TypeScript declarations of `/download-job.js`.",
    (Answer(200, "The declarations.", (Content(str, TEXT),), _KEPT), _SAME),
    (IF_NONE_MATCH,),
)
ASSET = Operation(
    "asset",
    "Service",
    "A file of the front page",
    "The styles and scripts of the pages at `/` and `/admin`.",
    (
        Answer(
            200,
            "The file.",
            tuple(Content(str, media) for media in ("text/css", "text/javascript", "image/svg+xml")),
            _KEPT,
        ),
        _SAME,
    ),
    (Parameter("name", "path", "The file's name.", {"type": "string", "minLength": 1}, "page.css"), IF_NONE_MATCH),
    problems=("not_found",),
)
DOCS = Operation(
    "docs",
    "Service",
    "This documentation",
    "The OpenAPI document as a page for people. It asks nothing of other servers.",
    (
        Answer(200, "The page.", (_PAGE,), ("ETag", "Cache-Control")),
        Answer(304, "You have it already.", (), ("ETag", "Cache-Control")),
    ),
    (IF_NONE_MATCH,),
)
OPENAPI = Operation(
    "openapi",
    "Service",
    "The OpenAPI document",
    "OpenAPI 3.1, made from the same table and models that serve the calls.",
    (
        Answer(200, "The document.", (Content(dict[str, object]),), ("ETag", "Cache-Control")),
        Answer(304, "You have it already.", (), ("ETag", "Cache-Control")),
    ),
    (IF_NONE_MATCH,),
)
CODE = Operation(
    "explainCode",
    "Service",
    "What a code means",
    "The page that a problem's `type` leads to: what happened and what to do. It knows the codes of jobs and of files "
    "too. JSON unless HTML is preferred.",
    (
        Answer(
            200,
            "What the code means.",
            (Content(shapes.CodeObject, example=examples.CODE), _PAGE),
            ("Cache-Control",),
        ),
    ),
    (
        Parameter(
            "code",
            "path",
            "The code.",
            {"type": "string", "minLength": 1},
            "job_not_found",
        ),
    ),
    problems=("not_found",),
)
