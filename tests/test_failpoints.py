"""A job outlives its service, whatever await it is killed at; and the instrument that shows it can be trusted."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.failpoints.hook import Board, Failpoints
from tests.failpoints.matrix import Kill, Plan, perform, picked
from tests.failpoints.points import MOMENTS, Site, modules, rewrite
from tests.failpoints.shapes import SHAPES
from tests.failpoints.stage import staged
from tests.servers import S3, Redis

AWAITS = (ast.Await, ast.AsyncFor)

SAMPLE = '''
"""A bit of everything that is awaited."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager


LIMIT = 3


class Told(Exception):
    pass


@asynccontextmanager
async def section(said, name, swallow=False):
    said.append(f"into {name}")
    try:
        yield name
    except Told:
        if not swallow:
            raise
        said.append(f"swallowed in {name}")
    finally:
        said.append(f"out of {name}")


class Counter:
    async def up_to(self, end):
        for number in range(end):
            await asyncio.sleep(0)
            yield number


async def later(value):
    await asyncio.sleep(0)
    return value


async def failing():
    await asyncio.sleep(0)
    raise Told("no")


async def everything():
    said = []
    async with section(said, "outer") as outer, section(said, "inner", swallow=True) as inner:
        said.append((outer, inner))
        async for number in Counter().up_to(LIMIT):
            if number == 2:
                continue
            said.append(await later(number))
        else:
            said.append("through")
        said.append([number async for number in Counter().up_to(LIMIT) if number])
        said.append(await later(await later(7)))
        await failing()
    try:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()
    except TimeoutError:
        said.append("timeout")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(later(number)) for number in range(3)]
    said.append([task.result() for task in tasks])
    try:
        async with section(said, "open"):
            await failing()
    except Told as error:
        said.append(str(error))
    return said
'''


def _played(code: Any, names: dict[str, Any]) -> list[Any]:
    space: dict[str, Any] = {"__name__": "sample"} | names
    exec(code, space)  # noqa: S102 - the sample above
    said: list[Any] = asyncio.run(space["everything"]())
    return said


def _loaded(folder: Path, kill: Callable[[], None], target: int = -1, nth: int = 1) -> tuple[Failpoints, Board, Any]:
    rewritten = rewrite(SAMPLE, "sample", "sample.py")
    path = folder / "board"
    Board.create(path, len(rewritten.sites) * len(MOMENTS))
    board = Board(path)
    failpoints = Failpoints(kill)
    failpoints.load(board, target, nth)
    return failpoints, board, rewritten


@cache
def _path() -> list[tuple[str, str, list[Site]]]:
    """Every module on the path: name, source, sites."""
    read = [(name, path.read_text()) for name, path in modules()]
    return [(name, source, rewrite(source, name, name).sites) for name, source in read]


class TestPoints:
    def test_every_await_of_the_path_is_a_site(self) -> None:
        """Nothing is left out: each module has a site for each await, async for and both ends of each async with."""
        for name, source, sites in _path():
            nodes = list(ast.walk(ast.parse(source)))
            steps = sum(isinstance(node, AWAITS) for node in nodes)
            steps += sum(isinstance(node, ast.comprehension) and bool(node.is_async) for node in nodes)
            steps += 2 * sum(len(node.items) for node in nodes if isinstance(node, ast.AsyncWith))
            assert len(sites) == steps, name

    def test_the_path_has_what_a_job_comes_by(self) -> None:
        """The list is made of the source: what claims, runs, stores and settles a job is in it."""
        sites = [site for _, _, sites in _path() for site in sites]
        points = [point for site in sites for point in site.points]
        assert len(set(points)) == len(points) > 500
        functions = {f"{site.module}.{site.qualname}" for site in sites}
        assert functions >= {
            "downloader.state.queue.Queue.claim",
            "downloader.state.queue.Queue.settle",
            "downloader.state.scripts.Scripts.run",
            "downloader.state.store.Store.enqueue",
            "downloader.work.pipeline.Pipeline.run",
            "downloader.work.storage.Storage.upload_part",
            "downloader.work.worker.Worker._see_to_its_end",
        }

    def test_names_stay_when_lines_move(self) -> None:
        """A point keeps its name when the file grows above it, and another function's awaits do not matter."""
        moved = "# a comment\n\n" + SAMPLE.replace(
            "async def later", "async def new():\n    await later(1)\n\n\nasync def later"
        )
        before = {site.name for site in rewrite(SAMPLE, "a.sample", "sample.py").sites}
        after = {site.name for site in rewrite(moved, "a.sample", "sample.py").sites}
        assert after - before == {"sample.new#1"}
        assert before <= after
        assert (
            Site("downloader.work.worker", "Worker._drain", 2, "exit").points[1]
            == "work.worker.Worker._drain#2.exit:after"
        )

    def test_a_constant_that_is_gone_is_told(self) -> None:
        """A wait that is shortened must still be there by its name."""
        rewritten = rewrite(SAMPLE, "sample", "sample.py", constants={"LIMIT": 1})
        assert "LIMIT = 1\n" in ast.unparse(rewritten.tree)
        with pytest.raises(LookupError, match="sample has no constant MOST"):
            rewrite(SAMPLE, "sample", "sample.py", constants={"MOST": 1})


class TestHook:
    def test_rewriting_changes_no_result(self, tmp_path: Path) -> None:
        """Values, exceptions, swallowed ones, timeouts and task groups come out as they do without it."""
        failpoints, board, rewritten = _loaded(tmp_path, pytest.fail)
        plain = _played(compile(SAMPLE, "sample.py", "exec"), {})
        code = compile(rewritten.tree, "sample.py", "exec")
        assert _played(code, failpoints.names()) == plain
        assert not any(board.counts)
        board.arm()
        assert _played(code, failpoints.names()) == plain
        board.close()

    def test_before_each_await_follows_its_end(self, tmp_path: Path) -> None:
        """Each await that was begun has ended well or raised, and the sample comes by nearly every site."""
        failpoints, board, rewritten = _loaded(tmp_path, pytest.fail)
        board.watch()
        _played(compile(rewritten.tree, "sample.py", "exec"), failpoints.names())
        counts = [board.counts[n : n + len(MOMENTS)] for n in range(0, len(board.counts), len(MOMENTS))]
        assert all(before == after + raised for before, after, raised in counts)
        missed = [site.name for site, count in zip(rewritten.sites, counts, strict=True) if not count[0]]
        assert not missed
        raised = {site.name for site, count in zip(rewritten.sites, counts, strict=True) if count[2]}
        assert {"sample.everything#8", "sample.everything#10", "sample.everything#13"} <= raised, raised
        board.close()

    @pytest.mark.parametrize("nth", [1, 3])
    def test_the_armed_point_kills_at_its_hit(self, tmp_path: Path, nth: int) -> None:
        """The target kills at the nth hit, not before, and only once it is armed."""
        target = next(n for n, site in enumerate(rewrite(SAMPLE, "sample", "").sites) if site.qualname == "later")
        kills: list[int] = []
        point = target * len(MOMENTS)
        failpoints, board, rewritten = _loaded(tmp_path, lambda: kills.append(board.counts[point]), point, nth)
        code = compile(rewritten.tree, "sample.py", "exec")
        board.watch()
        _played(code, failpoints.names())
        assert board.counts[point] >= nth
        assert not kills
        board.arm()
        _played(code, failpoints.names())
        assert kills == [nth]
        board.close()

    async def test_a_context_manager_passes_through(self) -> None:
        """What an armed `async with` wraps is entered and left once, and its value is the manager's own."""
        steps: list[str] = []

        @asynccontextmanager
        async def manager() -> AsyncIterator[str]:
            steps.append("in")
            yield "value"
            steps.append("out")

        entered: AbstractAsyncContextManager[str] = Failpoints(pytest.fail).names()["__failpoint_enter__"](
            manager(), 0, 1
        )
        async with entered as value:
            steps.append(value)
        assert steps == ["in", "value", "out"]


def test_a_sample_is_the_same_for_its_seed() -> None:
    """A failure of a sample can be repeated."""
    kills = [Kill(SHAPES[1], f"point {n}", 1) for n in range(100)]
    first, second = (picked(kills, Plan(sample=10, seed=seed)) for seed in (1, 2))
    assert first == picked(kills, Plan(sample=10, seed=1)) != second
    assert picked(kills, Plan(sample=1000)) == picked(kills, Plan()) == kills


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_job_outlives_its_service_wherever_it_is_killed(valkey: Redis, s3: S3) -> None:
    """A sample of kills over all shapes: each job completes once, with the right archive, and nothing is left over.

    All of them: `python -m tests.failpoints`.
    """
    lines: list[str] = []
    async with staged(valkey, s3) as stage:
        report = await perform(stage, Plan(sample=16, seed=1), lines.append)
    assert not report.failed, "\n".join(lines)
    assert len(report.runs) == 16
    assert sum(done.killed for done in report.runs) >= 13, "\n".join(lines)
