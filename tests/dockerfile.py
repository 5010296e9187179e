"""A Dockerfile as far as ours goes, and the replay of its steps without an engine, in a folder."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement

QUICK_PIP = """\
#!/bin/sh
case "$*" in
*"/venv/bin/python install "*" --require-hashes "*) PYTHONPATH="{root}" exec "{python}" -m tests.dockerfile "$@" ;;
esac
exec "{python}" -m pip "$@"
"""


@dataclass(frozen=True)
class Step:
    """One instruction and what stands behind it, its lines joined."""

    word: str
    rest: str

    @property
    def listed(self) -> list[str]:
        """The words of the exec form."""
        return list(json.loads(self.rest))


@dataclass(frozen=True)
class Stage:
    """What follows one FROM."""

    base: str
    name: str
    steps: tuple[Step, ...]

    def only(self, word: str) -> Step:
        """The one instruction of this kind."""
        (step,) = [step for step in self.steps if step.word == word]
        return step

    @property
    def environment(self) -> dict[str, str]:
        """Everything that ENV sets."""
        pairs = [
            pair for step in self.steps if step.word == "ENV" for pair in re.findall(r'(\w+)=("[^"]*"|\S+)', step.rest)
        ]
        return {name: value.strip('"') for name, value in pairs}


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile, in order."""
    found: list[tuple[str, str, list[Step]]] = []
    for step in _steps(text):
        if step.word == "FROM":
            base, _, name = step.rest.partition(" AS ")
            found.append((base, name, []))
        elif found:
            found[-1][2].append(step)
    return [Stage(base, name, tuple(steps)) for base, name, steps in found]


def _steps(text: str) -> Iterator[Step]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        yield Step(word.upper(), re.sub(r"\s+", " ", rest).strip() if word.upper() != "HEALTHCHECK" else rest.strip())


def context(root: Path, target: Path) -> None:
    """Copy to `target` what `.dockerignore` lets a build see of `root`."""
    patterns = (root / ".dockerignore").read_text(encoding="utf-8").split()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if name.parts[0] in {".git", ".venv"} or not path.is_file() or not _is_seen(name, patterns):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)


def _is_seen(name: Path, patterns: list[str]) -> bool:
    """The last pattern that fits the file or a folder above it decides."""
    above = [str(part) for part in (name, *name.parents)][:-1]
    seen = True
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        anywhere = bare.removeprefix("**/")
        fits = any(fnmatch.fnmatchcase(part, bare) and part.count("/") == bare.count("/") for part in above) or (
            bare != anywhere and any(fnmatch.fnmatchcase(part, anywhere) for part in name.parts)
        )
        if fits:
            seen = pattern.startswith("!")
    return seen


@dataclass
class Replay:
    """Carries the steps of a stage out below `folder`, which stands for the container's root."""

    folder: Path
    seen: Path
    arguments: Mapping[str, str]
    path: str
    moved: tuple[str, ...]
    # Compiling all that is installed takes as long as everything else.
    environment: dict[str, str] = field(default_factory=lambda: {"PIP_NO_COMPILE": "1"})
    _at: Path = field(init=False)

    def __post_init__(self) -> None:
        self._at = self.folder

    def here(self, text: str) -> str:
        """`text` with the container's folders moved to ours."""
        return re.sub(rf"(?<![\w./])/({'|'.join(self.moved)})(?![\w-])", rf"{self.folder}/\1", text)

    def run(self, stage: Stage) -> None:
        """Every RUN, COPY, WORKDIR, ARG and ENV of `stage`, in order."""
        for step in stage.steps:
            match step.word:
                case "ARG":
                    for pair in step.rest.split():
                        name, _, value = pair.partition("=")
                        self.environment[name] = self.arguments.get(name, value.strip('"'))
                case "ENV":
                    # The cache of this machine may stay in use.
                    self.environment |= dict(re.findall(r"(?!PIP_NO_CACHE_DIR)\b(\w+)=(\S+)", step.rest))
                case "WORKDIR":
                    self._at = Path(self.here(step.rest))
                    self._at.mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(step.rest.split())
                case "RUN":
                    self._shell(step.rest)
                case other:
                    raise AssertionError(f"no replay of {other}")

    def _copy(self, words: list[str]) -> None:
        *sources, to = words
        target = self._at / self.here(to)
        for source in sources:
            path = self.seen / source
            assert path.exists(), f"COPY {source}: .dockerignore hides it"
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, target / path.name if target.is_dir() else target)

    def _shell(self, script: str) -> None:
        environment = os.environ | self.environment | {"PATH": f"{self.path}:/usr/bin:/bin"}
        done = subprocess.run(
            ["/bin/sh", "-ec", self.here(script)],
            cwd=self._at,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"RUN {script}\n{done.stdout}{done.stderr}"


def quick_pip(folder: Path) -> str:
    """A PATH to this Python with a pip that copies locked packages into /venv instead of fetching them."""
    program = folder / "programs" / "pip"
    program.parent.mkdir()
    root = Path(__file__).parent.parent
    program.write_text(QUICK_PIP.format(root=root, python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    return f"{program.parent}:{Path(sys.executable).parent}"


def copied(lock: Path, site: Path) -> None:
    """Put the packages of a lock into `site`, from this environment, which has them in the same versions."""
    for line in re.findall(r"^[\w.-]+==[^\\\n]+", lock.read_text(encoding="utf-8"), re.MULTILINE):
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate():
            continue
        found = importlib.metadata.distribution(wanted.name)
        assert wanted.specifier.contains(found.version, prereleases=True), f"{line}: here it is {found.version}"
        for file in found.files or []:
            if "__pycache__" not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(str(file.locate())), site / file)


if __name__ == "__main__":
    words = sys.argv[1:]
    (there,) = Path(words[words.index("--python") + 1]).parent.parent.glob("lib/python3*/site-packages")
    for before, name in itertools.pairwise(words):
        if before == "-r":
            copied(Path(name), there)
