"""All measurements, or those that are named: `python -m tests.bench [FIGURE ...]`.

Each figure starts what it needs as processes of its own, and prints what it finds. At the end there are the targets
with their verdicts, and in a folder the tables (bench.md), a chart (bench.svg) and the raw numbers (bench.json).
Figures that are named are added to what lies there; a run of all begins anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.figures import FIGURES, PEERS
from tests.bench.plan import CONTESTANTS, Plan
from tests.bench.results import Results
from tests.bench.running import STORES


def main(words: Sequence[str] | None = None) -> None:
    """Measure."""
    options = _parser().parse_args(words)
    if options.list:
        print("\n".join(f"{figure.name:9} {figure.about}" for figure in FIGURES.values()))
        return
    plan = Plan(
        options.scale, options.runs, options.stores.split(","), options.contestants.split(","), tuple(options.set)
    )
    names = list(_names(options.figures))
    results = Results.read(options.out) if options.figures else Results(options.out)
    for name in names:
        print(f"-- {name}: {FIGURES[name].about}", flush=True)
        results.add(name, plan, FIGURES[name].measure(plan))
        results.write()
    print(results.verdicts(measured=True))
    print(f"tables, chart and raw numbers: {options.out}/bench.md, bench.svg, bench.json")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="`peers` stands for W1 to W6; default: all")
    parser.add_argument("--list", action="store_true", help="what figures there are")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is the full size")
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each contestant")
    parser.add_argument("--stores", default=",".join(STORES))
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="for the service")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder of the results")
    return parser


def _names(given: Sequence[str]) -> Iterator[str]:
    """The figures meant; SystemExit for one that there is not. `peers` beside some of the workloads adds nothing."""
    wanted = given or list(FIGURES)
    if "peers" in wanted and not set(wanted) & set(PEERS):
        wanted = [*PEERS, *wanted]
    for name in wanted:
        if name in FIGURES:
            yield name
        elif name != "peers":
            raise SystemExit(f"there is no figure {name!r}; --list tells what there is")


if __name__ == "__main__":
    main()
