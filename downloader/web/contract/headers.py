"""The headers that calls take and answers have, each described once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downloader.web.contract.operation import Parameter
from downloader.web.headers import WAIT_S_MAX

_NUMBER = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}

HEADERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "X-Request-Id": (
        "The id of the call, the caller's own if it sent one; it stands in the service's log.",
        {"type": "string", "minLength": 1, "maxLength": 128},
    ),
    "Location": ("Where to go on.", {"type": "string", "format": "uri-reference"}),
    "Retry-After": ("Seconds after which to ask again.", _NUMBER),
    "ETag": ("The version of what is told; give it back as If-None-Match.", {"type": "string", "pattern": '^".+"$'}),
    "Cache-Control": ("Whether the answer may be kept.", _TEXT),
    "Link": ('The next page, as `<path>; rel="next"` (RFC 8288).', _TEXT),
    "Idempotency-Replayed": ("`true`: the job was taken in by an earlier call.", {"const": "true"}),
    "Preference-Applied": (
        "`wait=N`: the call was held for the job's end, N seconds at most.",
        {"type": "string", "pattern": "^wait=[0-9]+$"},
    ),
    "RateLimit-Limit": ("How many such calls there may be in the window.", _NUMBER),
    "RateLimit-Remaining": ("How many are left of them.", _NUMBER),
    "RateLimit-Reset": ("Seconds until the window begins anew.", _NUMBER),
    "WWW-Authenticate": ("How to show who calls (RFC 6750).", {"type": "string", "pattern": "^Bearer "}),
    "Allow": ("The methods of the address.", _TEXT),
}
RATES = ("RateLimit-Limit?", "RateLimit-Remaining?", "RateLimit-Reset?")

IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Makes the call safe to repeat: for a day, the same key with the same request gives the same job. 1 to 255 visible "
    "ASCII characters, bare or as a quoted string. `X-Idempotency-Key` is the same.",
    # The last three: text that only begins with a quote, and a quoted string that is not empty.
    {"type": "string", "pattern": r"""^([!#-~][!-~]{0,254}|"|"[!-~]{0,253}[!#-~]|"(\\["\\]|[!-~]){1,255}")$"""},
)
PREFER = Parameter(
    "Prefer",
    "header",
    f"`wait=N` holds the answer until the job has ended, for N seconds ({WAIT_S_MAX} at most); see RFC 7240.",
    {"type": "string"},
    "wait=10",
)
IF_NONE_MATCH = Parameter(
    "If-None-Match",
    "header",
    "The ETag of an earlier answer; 304 without a body when nothing has changed.",
    {"type": "string"},
)
LAST_EVENT_ID = Parameter(
    "Last-Event-ID",
    "header",
    "The id of the last event seen, as an EventSource sends it when it connects again; what was missed follows.",
    {"type": "string"},
)
