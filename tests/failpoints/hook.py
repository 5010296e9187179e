"""The import hook of a test process, and what happens at a point: it is counted, and the armed one kills.

The counts lie in a file that is mapped into memory, so that they outlive the process; the first word of it says
whether it has begun to count, and whoever has the file can start that.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from array import array
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any, TypeVar

from tests.failpoints.points import (
    AFTER,
    AWAIT,
    BEFORE,
    ENTER,
    ITERATE,
    MOMENTS,
    RAISED,
    Constants,
    Site,
    on_the_path,
    rewrite,
)

T = TypeVar("T")
Awaited = Callable[[Awaitable[Any], int], Awaitable[Any]]
WORD_BYTES = 4
WATCHING, ARMED = 1, 2


class Board:
    """Counts of all points in a mapped file, and the word that switches them on."""

    def __init__(self, path: Path) -> None:
        """`path` is a file that `create` has made."""
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._words = memoryview(self._map).cast("I")

    @staticmethod
    def create(path: Path, points: int) -> None:
        """Make the file for so many points."""
        path.write_bytes(bytes(WORD_BYTES * (points + 1)))

    @property
    def counting(self) -> bool:
        """Whether points count."""
        return bool(self._words[0])

    @property
    def armed(self) -> bool:
        """Whether the target kills."""
        return self._words[0] == ARMED

    def watch(self) -> None:
        """From here on points count, and none kills."""
        self._words[0] = WATCHING

    def arm(self) -> None:
        """From here on points count, from nought, and the target kills."""
        self._words[1:] = memoryview(bytes(len(self._words[1:]) * WORD_BYTES)).cast("I")
        self._words[0] = ARMED

    def hit(self, point: int) -> int:
        """Count one more hit of a point; gives which one it is."""
        self._words[point + 1] += 1
        return self._words[point + 1]

    @property
    def counts(self) -> list[int]:
        """How often each point was hit."""
        return array("I", self._words[1:]).tolist()

    def close(self) -> None:
        """Let go of the file."""
        self._words.release()
        self._map.close()


class Failpoints:
    """What the rewritten modules call."""

    def __init__(self, kill: Callable[[], None] | None = None) -> None:
        """`kill` stands in for the end of the process."""
        self._kill = kill or _kill_at_once
        self._board: Board | None = None
        self._target = -1
        self._nth = 1

    def load(self, board: Board, target: int = -1, nth: int = 1) -> None:
        """Count on `board`, and kill at the `nth` hit of the point `target`."""
        self._board, self._target, self._nth = board, target, nth

    def names(self) -> dict[str, Any]:
        """What a rewritten module needs among its globals."""
        return {AWAIT: self._awaited, ITERATE: self._iterated, ENTER: self._entered}

    def _hit(self, site: int, moment: int) -> None:
        if self._board is None or not self._board.counting:
            return
        point = site * len(MOMENTS) + moment
        if self._board.hit(point) == self._nth and point == self._target and self._board.armed:
            self._kill()

    async def _awaited(self, awaitable: Awaitable[T], site: int) -> T:
        self._hit(site, BEFORE)
        try:
            result = await awaitable
        except StopAsyncIteration:  # the way an iterator says that it is through
            self._hit(site, AFTER)
            raise
        except BaseException:
            self._hit(site, RAISED)
            raise
        self._hit(site, AFTER)
        return result

    def _iterated(self, items: AsyncIterable[T], site: int) -> AsyncIterator[T]:
        return _Steps(self._awaited, items, site)

    def _entered(self, context: AbstractAsyncContextManager[T], enter: int, leave: int) -> _Context[T]:
        return _Context(self._awaited, context, enter, leave)


class _Steps(AsyncIterator[T]):
    """An `async for` whose steps are points."""

    def __init__(self, awaited: Awaited, items: AsyncIterable[T], site: int) -> None:
        self._awaited = awaited
        self._iterator = aiter(items)
        self._site = site

    async def __anext__(self) -> T:
        item: T = await self._awaited(anext(self._iterator), self._site)
        return item


class _Context(AbstractAsyncContextManager[T]):
    """An `async with` whose two awaits are points."""

    def __init__(
        self,
        awaited: Awaited,
        context: AbstractAsyncContextManager[T],
        enter: int,
        leave: int,
    ) -> None:
        self._awaited = awaited
        self._context = context
        self._enter = enter
        self._leave = leave

    async def __aenter__(self) -> T:
        entered: T = await self._awaited(self._context.__aenter__(), self._enter)
        return entered

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        swallowed: bool | None = await self._awaited(self._context.__aexit__(kind, error, trace), self._leave)
        return swallowed


class Finder(MetaPathFinder):
    """Loads the modules on the path rewritten; `sites` are those of all modules that were loaded."""

    def __init__(self, failpoints: Failpoints, constants: Mapping[str, Constants]) -> None:
        self.sites: list[Site] = []
        self._failpoints = failpoints
        self._constants = constants

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module on the path; None leaves all others to the usual finders."""
        if not on_the_path(fullname):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        spec.loader = _Loader(fullname, spec.origin, self)
        spec.cached = None
        return spec

    def install(self) -> None:
        """Load what is imported from now on through here; RuntimeError when it is too late for some module."""
        early = sorted(name for name in sys.modules if on_the_path(name))
        if early:
            raise RuntimeError(f"imported before the hook: {early}")
        sys.meta_path.insert(0, self)

    def compiled(self, fullname: str, source: str, path: str) -> CodeType:
        """The rewritten code of a module."""
        rewritten = rewrite(source, fullname, path, len(self.sites), self._constants.get(fullname))
        self.sites += rewritten.sites
        code: CodeType = compile(rewritten.tree, path, "exec", dont_inherit=True)
        return code

    def prepare(self, module: ModuleType) -> None:
        """Give a module what its rewritten code calls."""
        vars(module).update(self._failpoints.names())


class _Loader(SourceFileLoader):
    def __init__(self, fullname: str, path: str, finder: Finder) -> None:
        super().__init__(fullname, path)
        self._finder = finder

    def get_code(self, fullname: str) -> CodeType:
        """Always from the source: the cached code is that of the product."""
        source = self.get_data(self.path).decode()
        return self._finder.compiled(fullname, source, self.path)

    def exec_module(self, module: ModuleType) -> None:
        self._finder.prepare(module)
        super().exec_module(module)


def _kill_at_once() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
