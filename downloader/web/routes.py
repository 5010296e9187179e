"""The table of routes: what is called how, who may call it, and which budget a call is charged to.

The application serves exactly these routes, and the OpenAPI document is made from them.
"""

from __future__ import annotations

from downloader.web import admin, assets, calls, front, health, sse
from downloader.web.contract import admin as admin_docs
from downloader.web.contract import archives, jobs, serve, service
from downloader.web.initiate import initiate
from downloader.web.jobs import list_jobs
from downloader.web.metrics import metrics
from downloader.web.redeliver import redeliver
from downloader.web.render import BASE
from downloader.web.retry import retry
from downloader.web.route import Budget, Need, Route

# Anything may stand for a job id, and what is none is an unknown job. Where the path has other words too, those are
# no ids, so that GET /initiate is a wrong method and not an unknown job.
ANY_JOB = r"{job_id:[^/]+}"
JOB = r"{job_id:(?!(?:initiate|status|subscribe|jobs)$)[^/]+}"

ROUTES: tuple[Route, ...] = (
    Route("POST", f"{BASE}/initiate", initiate, jobs.INITIATE, budget=Budget.INITIATE, audit="initiate"),
    Route("GET", f"{BASE}/jobs", list_jobs, jobs.LIST, budget=Budget.READ),
    Route("GET", f"{BASE}/status/{ANY_JOB}", calls.status, jobs.STATUS, Need.READ, Budget.READ),
    Route("GET", f"{BASE}/subscribe/{ANY_JOB}", sse.subscribe, jobs.SUBSCRIBE, Need.READ, Budget.STREAM, head=False),
    Route("GET", f"{BASE}/{JOB}/files", calls.files, archives.FILES, Need.READ, Budget.READ),
    Route(
        "GET",
        f"{BASE}/{JOB}/files/{{index}}",
        calls.kept_file,
        archives.KEPT_FILE,
        Need.READ,
        Budget.READ,
        audit="download",
    ),
    Route("POST", f"{BASE}/{JOB}/cancel", calls.cancel, jobs.CANCEL, budget=Budget.CHANGE, audit="cancel"),
    Route("POST", f"{BASE}/{JOB}/retry", retry, jobs.RETRY, budget=Budget.INITIATE, audit="retry"),
    Route("POST", f"{BASE}/{JOB}/redeliver", redeliver, jobs.REDELIVER, budget=Budget.CHANGE, audit="redeliver"),
    Route("GET", f"{BASE}/{JOB}", calls.download, archives.DOWNLOAD, Need.READ, Budget.READ, audit="download"),
    Route("DELETE", f"{BASE}/{JOB}", calls.delete, jobs.DELETE, budget=Budget.CHANGE, audit="delete"),
    Route("GET", "/v1/admin/overview", admin.overview, admin_docs.OVERVIEW, Need.ADMIN, Budget.READ),
    Route("GET", "/livez", health.livez, service.LIVEZ, Need.NOTHING),
    Route("GET", "/readyz", health.readyz, service.READYZ, Need.NOTHING),
    Route("GET", "/health", health.health, service.HEALTH, Need.NOTHING),
    Route("GET", "/metrics", metrics, service.METRICS, Need.MACHINE),
    Route("GET", "/openapi.json", serve.openapi, service.OPENAPI, Need.NOTHING),
    Route("GET", "/docs", serve.show, service.DOCS, Need.NOTHING),
    Route("GET", "/errors/{code}", serve.explain, service.CODE, Need.NOTHING),
    Route("GET", "/", front.show, service.FRONT, Need.NOTHING),
    Route("GET", "/admin", admin.page, admin_docs.PAGE, Need.NOTHING),
    Route("GET", "/download-job.js", assets.module, service.MODULE, Need.NOTHING),
    Route("GET", "/download-job.d.ts", assets.types, service.TYPES, Need.NOTHING),
    Route("GET", "/assets/{name}", assets.asset, service.ASSET, Need.NOTHING),
)
