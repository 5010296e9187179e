"""Delivers callbacks: whichever is due, in whatever process it was asked for, until its receiver has it.

The memory says what is due and leases it to one process; the tries, their pauses and what they come to are decided
here. A delivery that is cut by the end of the process is made again, so receivers drop repeats by `webhook-id`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from downloader.callbacks import Attempt, CallbackState, DueCallback
from downloader.config import WebhookSettings
from downloader.errors import UnavailableError
from downloader.work.notice import payload, signed_headers
from downloader.work.postman import Answered, Postman

AT_ONCE = 32
# So that one slow receiver takes only a part of them, and gets no flood when it comes back.
AT_ONCE_PER_RECEIVER = 2
# One tenant's slow receivers, however many, leave a quarter to others, as its jobs do.
AT_ONCE_PER_TENANT = AT_ONCE * 3 // 4
LOOK_S = 1.0
REDIS_PAUSE_S = 0.5
# Longer than any try takes, by the time to write down what came of it: 30 s.
LEASE_TIMEOUTS = 3
JITTER = 0.2
# The pauses in units of `webhook.first_pause_s`: 5 s, 1 min, 5 min, 30 min, 2 h, 5 h, 10 h. With all jitter they fit
# into `jobs.retry_ttl_s`, since what is no longer kept cannot be called.
PAUSES = (1, 12, 60, 360, 1440, 3600, 7200)
GONE = 410
_HOPELESS = frozenset({"bad_url", "bad_scheme", "request_expired"})

log = structlog.get_logger(__name__)


class Mailbox(Protocol):
    """Where callbacks wait; `state/hooks.py` has it in Redis. Its calls raise UnavailableError while that is away."""

    async def take(self, busy: Iterable[str]) -> DueCallback | float | None:
        """The next that is due for no `busy` receiver or sender; else seconds until one is, None when there is none."""
        ...

    async def told(self, due: DueCallback, attempt: Attempt, state: CallbackState, pause_s: float) -> bool:
        """Write down what became of a try; False when the delivery was not ours any more."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a try: the callback's state, and for a pending one the pause before the next try."""

    state: CallbackState
    pause_s: float = 0

    @property
    def word(self) -> str:
        """`delivered`, `failed`, `disabled` or `retry`: for counting."""
        return "retry" if self.state is CallbackState.PENDING else self.state.value


def lease_s(settings: WebhookSettings) -> float:
    """How long a delivery stays a silent process's, in seconds."""
    return settings.timeout_s * LEASE_TIMEOUTS


def pauses_s(settings: WebhookSettings) -> list[float]:
    """The pauses between the tries for one callback, without their jitter, in seconds."""
    return [settings.first_pause_s * PAUSES[min(number, len(PAUSES)) - 1] for number in range(1, settings.attempts)]


def verdict(answered: Answered, number: int, settings: WebhookSettings, jitter: float) -> Verdict:
    """What follows from try `number` (from 1); `jitter` from 0 to 1 spreads the pause by a fifth either way."""
    attempt = answered.attempt
    if attempt.status is not None and 200 <= attempt.status < 300:
        return Verdict(CallbackState.DELIVERED)
    if attempt.status == GONE:
        return Verdict(CallbackState.DISABLED)
    if attempt.error in _HOPELESS or number >= settings.attempts:
        return Verdict(CallbackState.FAILED)
    pause_s = settings.first_pause_s * PAUSES[min(number, len(PAUSES)) - 1] * (1 + JITTER * (2 * jitter - 1))
    longest_s = settings.first_pause_s * PAUSES[-1]
    return Verdict(CallbackState.PENDING, max(pause_s, min(answered.wait_s, longest_s)))


def _uncounted(_: str) -> None:
    """Nobody counts."""


class Deliverer:
    """Delivers what is due, AT_ONCE at most; `run` is its life."""

    def __init__(
        self,
        mailbox: Mailbox,
        postman: Postman,
        settings: WebhookSettings,
        status_url: Callable[[str], str],
        on_delivery: Callable[[str], None] = _uncounted,
    ) -> None:
        """`status_url` gives where a job's status is; `on_delivery` hears the outcome of each try in one word."""
        self._mailbox = mailbox
        self._postman = postman
        self._settings = settings
        self._status_url = status_url
        self._on_delivery = on_delivery
        self._flying: Counter[str] = Counter()
        self._of_tenant: Counter[str] = Counter()
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Look at once whether something is due, since a job has ended."""
        self._stirred.set()

    async def run(self) -> None:
        """Deliver until cancelled; what is under way then is cut, and made again by whoever comes next."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._stirred.clear()
                found = await self._next()
                if isinstance(found, DueCallback):
                    self._flying[found.receiver] += 1
                    self._of_tenant[found.sender] += 1
                    group.create_task(self._deliver(found))
                else:
                    await self._wait(found)

    async def _next(self) -> DueCallback | float:
        """Something to deliver, else how long to wait for it at most."""
        if self._flying.total() >= AT_ONCE:
            return LOOK_S
        busy = [receiver for receiver, count in self._flying.items() if count >= AT_ONCE_PER_RECEIVER]
        busy += [sender for sender, count in self._of_tenant.items() if count >= AT_ONCE_PER_TENANT]
        try:
            found = await self._mailbox.take(busy)
        except UnavailableError as error:
            log.debug("webhook.interrupted", reason=error.message)
            return LOOK_S
        return found if isinstance(found, DueCallback) else min(LOOK_S, LOOK_S if found is None else found)

    async def _wait(self, longest_s: float) -> None:
        try:
            async with asyncio.timeout(longest_s):
                await self._stirred.wait()
        except TimeoutError:
            pass

    async def _deliver(self, due: DueCallback) -> None:
        try:
            answered = await self._try(due)
            follows = verdict(answered, due.number, self._settings, random.random())
            await self._tell(due, answered.attempt, follows)
        finally:
            self._flying[due.receiver] -= 1
            self._of_tenant[due.sender] -= 1
            self._flying += Counter()  # drops the zero
            self._of_tenant += Counter()
            self.stir()

    async def _try(self, due: DueCallback) -> Answered:
        try:
            return await self._send(due)
        except Exception:  # the rim: one that we cannot send must not take down those that we can
            log.exception("webhook.internal", job_id=due.record.job_id)
            return Answered(Attempt(None, "internal", 0))

    async def _send(self, due: DueCallback) -> Answered:
        if not due.url:
            return Answered(Attempt(None, "request_expired", 0))
        secrets = self._settings.secrets(due.record.tenant)
        if not secrets:
            return Answered(Attempt(None, "no_secret", 0))
        body = payload(due.record, self._status_url)
        headers = signed_headers(due.record.job_id, body, secrets, datetime.now(UTC))
        return await self._postman.post(due.url, body, headers)

    async def _tell(self, due: DueCallback, attempt: Attempt, follows: Verdict) -> None:
        """Write down what came of a try, however long Redis is away."""
        log.info(
            "webhook.tried",
            outcome=follows.word,
            job_id=due.record.job_id,
            attempt=due.number,
            status=attempt.status,
            code=attempt.error,
            ms=attempt.ms,
        )
        self._on_delivery(follows.word)
        while True:
            try:
                await self._mailbox.told(due, attempt, follows.state, follows.pause_s)
            except UnavailableError:
                await asyncio.sleep(REDIS_PAUSE_S)
            else:
                return
