"""Callbacks in Redis: which is due, who delivers it, and what became of each try.

A delivery is taken with a lease. A process that dies with it leaves it to the next one, so a receiver gets a callback
at least once; the log and the state are written only by who holds the delivery's token.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from downloader.callbacks import Attempt, CallbackState, Delivery, DueCallback
from downloader.errors import RequestError
from downloader.events import integer
from downloader.state.client import Client, answered
from downloader.state.records import record_from_fields
from downloader.state.scripts import Scripts

SENDER_CHARS = 16

_ATTEMPT: TypeAdapter[Attempt] = TypeAdapter(Attempt)


@dataclass(frozen=True, slots=True)
class _Address:
    """What a delivery needs of a JobRequest; its thousands of sources are not worth being made each time."""

    callback_url: str = ""


_ADDRESS: TypeAdapter[_Address] = TypeAdapter(_Address)


def receiver_of(tenant: str, callback_url: str) -> str:
    """A short name for where the tenant's callbacks to this URL go; it tells nothing of the URL. "" without one."""
    if not callback_url:
        return ""
    parts = urlsplit(callback_url)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()
    return sender_of(tenant) + hashlib.sha256(place.encode()).hexdigest()[:16]


def sender_of(tenant: str) -> str:
    """What the names of all receivers of a tenant begin with."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:SENDER_CHARS]


class Hooks:
    """Deliveries in Redis. Every method raises UnavailableError while Redis is away."""

    def __init__(self, scripts: Scripts, lease_s: float) -> None:
        """`lease_s` is how long a delivery stays a silent process's."""
        self._scripts = scripts
        self._lease_ms = int(lease_s * 1000)
        self._process = secrets.token_hex(8)
        self._nonce = secrets.token_hex(8)

    async def take(self, busy: Iterable[str]) -> DueCallback | float | None:
        """The next callback that is due; else seconds until one is, None when there is none.

        `busy` are receivers, and senders (what a tenant's receivers begin with), that have enough on their way.

        After a lost answer the next call gets the same one.
        """
        nonce = self._nonce
        verdict, *answer = await self._scripts.run("hooktake", self._process, nonce, self._lease_ms, *busy)
        self._nonce = secrets.token_hex(8)
        if verdict == b"none":
            return int(answer[0]) / 1000 if answer[0] != b"" else None
        job_id, blob, *flat = answer
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        record = record_from_fields(job_id.decode(), fields, None)
        if record is None:
            return 0.0  # deleted in this moment: the next call finds another
        return DueCallback(
            record=record,
            token=nonce,
            receiver=fields[b"hookto"].decode(),
            sender=sender_of(record.tenant),
            number=(integer(fields, b"hookround") or 0) + 1,
            url=_callback_url(blob),
        )

    async def told(self, due: DueCallback, attempt: Attempt, state: CallbackState, pause_s: float) -> bool:
        """Write down what became of a try; a `pending` one is tried again after `pause_s`.

        False when the delivery was not ours any more, or was written down before.
        """
        line = _ATTEMPT.dump_json(attempt)
        return bool(
            await self._scripts.run("hooktold", due.record.job_id, due.token, state.value, int(pause_s * 1000), line)
        )


class Callbacks:
    """What callers see of callbacks and may ask for. Every method raises UnavailableError while Redis is away."""

    def __init__(self, client: Client, scripts: Scripts) -> None:
        self._client = client
        self._scripts = scripts

    async def again(self, job_id: str) -> None:
        """Put the callback of an ended job up to be delivered now; the caller has checked the tenant.

        Raises RequestError: `no_callback`, `job_not_finished`, or `request_expired` when its URL is no longer kept.
        """
        verdict: bytes = await self._scripts.run("hookagain", job_id)
        match verdict:
            case b"unknown":
                raise RequestError("job_not_found", "There is no such job; it may have expired or been deleted.")
            case b"none":
                raise RequestError("no_callback", "This job has no callback; give callbackUrl when you start one.")
            case b"active":
                raise RequestError("job_not_finished", "The job is still active; its callback follows at its end.")
            case b"expired":
                raise RequestError("request_expired", "Where to call back is no longer kept; see the job's status.")
            case _:
                return

    async def log(self, job_id: str) -> list[Delivery]:
        """The last tries to deliver the job's callback, newest last."""
        lines = await answered(self._client.lrange(f"{self._scripts.prefix}hooklog:{job_id}", 0, -1))
        return [_delivery(line) for line in lines]


def _delivery(line: bytes) -> Delivery:
    at, number, attempt = line.split(b" ", 2)
    return Delivery(int(at), int(number), _ATTEMPT.validate_json(attempt))


def _callback_url(blob: bytes) -> str:
    try:
        return _ADDRESS.validate_json(blob).callback_url
    except ValidationError:  # gone, or not to be read
        return ""
