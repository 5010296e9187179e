"""What the callbacks should be after each call, in plain Python: a part of the judge in `scriptmodel.py`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(slots=True)
class ModelHook:
    """One job's callback; `due` is when it is looked at next, which a lease puts off, `planned` when it is tried."""

    receiver: str
    state: str = "pending"
    due: int | None = None
    planned: int | None = None
    token: str = ""
    tries: int = 0
    round: int = 0

    def plan(self, due: int | None) -> None:
        """To be tried then, or not any more."""
        self.due = self.planned = due


class HookModel:
    """The callbacks of all jobs that have one; times in milliseconds."""

    def __init__(self) -> None:
        self._hooks: dict[str, ModelHook] = {}

    def expect(self, job_id: str, receiver: str) -> None:
        """A new job wants one, unless `receiver` is empty."""
        if receiver:
            self._hooks[job_id] = ModelHook(receiver)

    def ended(self, job_id: str, now: int) -> None:
        """The job has ended: due at once."""
        if job_id in self._hooks:
            self._hooks[job_id].plan(now)

    def forget(self, job_id: str) -> None:
        """The job was deleted."""
        self._hooks.pop(job_id, None)

    def waiting(self) -> dict[str, dict[str, int]]:
        """Receivers, and the jobs that something is due for, by when."""
        waiting: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for job_id, hook in self._hooks.items():
            if hook.due is not None:
                waiting[hook.receiver][job_id] = hook.due
        return dict(waiting)

    def heads(self, now: int, busy: Collection[str]) -> dict[str, str]:
        """The jobs that may be taken now, with their receivers: the earliest of each receiver that is not busy."""
        found = {}
        for receiver, jobs in self.waiting().items():
            head = min(jobs, key=lambda job_id, jobs=jobs: (jobs[job_id], job_id))  # type: ignore[misc]
            if jobs[head] <= now and receiver not in busy:
                found[head] = receiver
        return found

    def wait_ms(self, now: int) -> int | None:
        """How long until another receiver has something due."""
        dues = [min(jobs.values()) for jobs in self.waiting().values()]
        return min((due - now for due in dues if due > now), default=None)

    def take(self, job_id: str, token: str, until: int) -> int:
        """Somebody delivers it; gives the number of the try in this round."""
        hook = self._hooks[job_id]
        hook.token, hook.due = token, until
        return hook.round + 1

    def told(self, job_id: str, token: str, state: str, due: int) -> bool:
        """What came of a try, if the teller still has it."""
        hook = self._hooks.get(job_id)
        if hook is None or hook.token != token:
            return False
        hook.token, hook.state = "", state
        hook.tries, hook.round = hook.tries + 1, hook.round + 1
        hook.plan(due if state == "pending" else None)
        return True

    def refused(self, job_id: str, *, active: bool) -> str:
        """Why it cannot be delivered again; "" when it can."""
        if job_id not in self._hooks:
            return "no_callback"
        return "job_not_finished" if active else ""

    def again(self, job_id: str, now: int) -> bool:
        """Due now, with all tries before it; False when it is due or on its way as it is."""
        hook = self._hooks[job_id]
        hook.round = 0
        if hook.due is not None and (hook.token or hook.due <= now):
            return False
        hook.state = "pending"
        hook.plan(now)
        return True

    def of(self, job_id: str) -> dict[str, str]:
        """What the job's record should say of it; {} for none."""
        hook = self._hooks.get(job_id)
        if hook is None:
            return {}
        known = {"hook": hook.state, "hookto": hook.receiver}
        known |= {"hooktoken": hook.token} if hook.token else {}
        known |= {"hooktries": str(hook.tries)} if hook.tries else {}
        known |= {"hooknext": str(hook.planned)} if hook.planned is not None else {}
        return known
