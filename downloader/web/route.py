"""One call of the API as a value: what serves it, who may make it, which budget it is charged to."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import hdrs, web

from downloader.web.contract.operation import Operation
from downloader.web.parts import Handler


class Need(enum.Enum):
    """What a caller must show: nothing, a key or the job's own read token, a key, or that it is on this machine.

    Or a key with the admin right, from everywhere and however open the service is.
    """

    NOTHING = "nothing"
    READ = "read"
    KEY = "key"
    MACHINE = "machine"
    ADMIN = "admin"


class Budget(enum.StrEnum):
    """What a call is charged to; `initiate` is charged when the job is taken in, streams by how many are open."""

    NONE = "none"
    INITIATE = "initiate"
    CHANGE = "change"
    READ = "read"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Route:
    """One call: method, path, what serves it, what is told of it, and the rules around it.

    A GET answers HEAD too unless `head` is off. `audit` is what the audit log calls it, "" for what it leaves out.
    """

    method: str
    path: str
    handler: Handler
    doc: Operation
    need: Need = Need.KEY
    budget: Budget = Budget.NONE
    head: bool = True
    audit: str = ""

    def definition(self) -> web.RouteDef:
        """The route as aiohttp wants it."""
        if self.method == hdrs.METH_GET:
            return web.get(self.path, self.handler, allow_head=self.head)
        return web.route(self.method, self.path, self.handler)


ROUTE_OF: web.AppKey[Mapping[Handler, Route]] = web.AppKey("route_of")


def route_of(request: web.Request) -> Route | None:
    """The route that serves this call; None where nothing does."""
    return request.app[ROUTE_OF].get(request.match_info.handler)
