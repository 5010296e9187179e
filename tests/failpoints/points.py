"""Finds every await of a module and rewrites it so that it tells of itself. Pure: source in, tree and names out.

A site is one await: an `await` itself, one step of an `async for`, entering or leaving an `async with`. It has three
moments: before it, after it, and when it raised. A moment of a site is a point, named like
`work.worker.Worker._dispatch#2:before`; the number counts the sites of one function from the top, so that a name stays
what it is when lines move.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

MOMENTS = ("before", "after", "raised")
BEFORE, AFTER, RAISED = range(3)

# The modules on a job's path, as patterns of their names.
ON_THE_PATH = (
    "downloader.work.*",
    "downloader.state.queue",
    "downloader.state.scripts",
    "downloader.state.store",
    "downloader.state.client",
    "downloader.web.initiate",
    "downloader.web.reading",
    "downloader.web.lasting",
)

# What the rewritten code calls; see `hook`.
AWAIT, ITERATE, ENTER = "__failpoint_await__", "__failpoint_iterate__", "__failpoint_enter__"

Constants = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Site:
    """One await of the source; `kind` is empty for a plain one, else `next`, `enter` or `exit`."""

    module: str
    qualname: str
    ordinal: int
    kind: str

    @property
    def name(self) -> str:
        """Stable against everything but a change of the awaits of this function."""
        short = self.module.partition(".")[2] or self.module
        return f"{short}.{self.qualname}#{self.ordinal}{'.' + self.kind if self.kind else ''}"

    @property
    def points(self) -> list[str]:
        """The names of its moments."""
        return [f"{self.name}:{moment}" for moment in MOMENTS]


@dataclass
class Rewritten:
    """A module's tree with its sites, in the order of their numbers."""

    tree: ast.Module
    sites: list[Site] = field(default_factory=list)


def on_the_path(module: str) -> bool:
    """Whether the module is one that is looked at."""
    return any(fnmatchcase(module, pattern) for pattern in ON_THE_PATH)


def modules() -> Iterator[tuple[str, Path]]:
    """Every module on the path, by name, with its file."""
    spec = find_spec("downloader")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if on_the_path(name):
            yield name, path


def rewrite(source: str, module: str, path: str, first: int = 0, constants: Constants | None = None) -> Rewritten:
    """Make the module's tree with each await handed to the hook; its sites are numbered from `first`.

    `constants` are values for names that the module gives at its top; LookupError when it has no such name.
    """
    tree = ast.parse(source, path)
    for name, value in (constants or {}).items():
        _set_constant(tree, name, value, module)
    rewriter = _Rewriter(module, first)
    rewriter.visit(tree)
    return Rewritten(ast.fix_missing_locations(tree), rewriter.sites)


def _set_constant(tree: ast.Module, name: str, value: float, module: str) -> None:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == [name]:
            statement.value = ast.copy_location(ast.Constant(value), statement.value)
            return
    raise LookupError(f"{module} has no constant {name} any more")


class _Rewriter(ast.NodeTransformer):
    def __init__(self, module: str, first: int) -> None:
        self.sites: list[Site] = []
        self._module = module
        self._first = first
        self._names: list[str] = []
        self._counts: Counter[str] = Counter()

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._within(node, node.name)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._within(node, node.name)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._within(node, node.name)

    def visit_Await(self, node: ast.Await) -> ast.AST:
        number = self._site("")
        self.generic_visit(node)
        node.value = _call(AWAIT, node.value, number)
        return node

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        number = self._site("next")
        self.generic_visit(node)
        node.iter = _call(ITERATE, node.iter, number)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        if not node.is_async:
            return self.generic_visit(node)
        number = self._site("next")
        self.generic_visit(node)
        node.iter = _call(ITERATE, node.iter, number)
        return node

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        pairs = [(self._site("enter"), self._site("exit", same=True)) for _ in node.items]
        self.generic_visit(node)
        for item, (enter, leave) in zip(node.items, pairs, strict=True):
            item.context_expr = _call(ENTER, item.context_expr, enter, leave)
        return node

    def _within(self, node: ast.AST, name: str) -> ast.AST:
        self._names.append(name)
        try:
            return self.generic_visit(node)
        finally:
            self._names.pop()

    def _site(self, kind: str, *, same: bool = False) -> int:
        """Number a site; `same` gives it the ordinal of the one before."""
        qualname = ".".join(self._names)
        self._counts[qualname] += not same
        self.sites.append(Site(self._module, qualname, self._counts[qualname], kind))
        return self._first + len(self.sites) - 1


def _call(name: str, value: ast.expr, *numbers: int) -> ast.Call:
    arguments: list[ast.expr] = [value, *map(ast.Constant, numbers)]
    return ast.copy_location(ast.Call(ast.Name(name, ast.Load()), arguments, []), value)
