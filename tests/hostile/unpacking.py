"""Other people's readers unpack many archives; whatever is not as announced is a complaint.

Starting a process for each archive takes longer than reading it, so readers that take many at once get them at once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.readers import Found
from tests.servers import missing

_JAVA = Path(__file__).parents[1] / "java" / "ReadZip.java"
_LOCALE = {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
_AT_ONCE = 2
_SHOWN = 300  # characters of what a reader said
_MEMORY = Path("/dev/shm")  # on Linux a file system without a disk, but in containers often a very small one
_ENOUGH_BYTES = 1 << 30

# What a reader says of one archive: its files, or in words what went wrong.
Verdict = list[Found] | str
Reader = Callable[[Sequence[Path], Path], Iterator[Verdict]]


class Sample(NamedTuple):
    """An archive and the files that it has to hold."""

    path: Path
    wanted: list[Found]


def quick_folder() -> TemporaryDirectory[str]:
    """A temporary folder, in memory if there is room: thousands of files come and go in it."""
    is_roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ENOUGH_BYTES
    return TemporaryDirectory(prefix="hostile-", dir=_MEMORY if is_roomy else None)


def complaints(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """What each reader has to complain of; for most there is nothing."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        said = pool.map(lambda read: _complaints_of(read, samples), READERS.values())
        return dict(zip(READERS, said, strict=True))


def _complaints_of(read: Reader, samples: Sequence[Sample]) -> list[str]:
    with quick_folder() as jail:
        folder = Path(jail) / "a" / "b" / "c" / "out"
        folder.mkdir(parents=True)
        verdicts = list(read([sample.path for sample in samples], folder))
        escaped = [f"outside the folder: {path}" for path in _strays(Path(jail), folder)]
    found = zip(samples, verdicts, strict=True)
    return escaped + [f"{sample.path.name}: {text}" for sample, verdict in found for text in _judged(sample, verdict)]


def _strays(jail: Path, folder: Path) -> Iterator[str]:
    """Whatever lies in the jail and not in its folder."""
    for here, folders, files in os.walk(jail):
        yield from (str(Path(here, name).relative_to(jail)) for name in files)
        if Path(here) == folder.parent:
            folders.remove(folder.name)


def _judged(sample: Sample, verdict: Verdict) -> Iterator[str]:
    if isinstance(verdict, str):
        yield verdict
        return
    wanted, found = sorted(sample.wanted), sorted(verdict)
    if wanted == found:
        return
    yield from (f"missing {file!r}" for file in sorted(set(wanted) - set(found)))
    yield from (f"unexpected {file!r}" for file in sorted(set(found) - set(wanted)))
    if len(wanted) != len(found):
        yield f"{len(found)} files instead of {len(wanted)}"


# The readers


def _python_listing(paths: Sequence[Path], folder: Path) -> Iterator[Verdict]:
    """By the directory, every CRC checked."""
    return (_by_python(path, _listed) for path in paths)


def _listed(archive: zipfile.ZipFile) -> Verdict:
    bad = archive.testzip()
    return (
        f"bad CRC: {bad!r}" if bad else [Found(info.filename, info.file_size, info.CRC) for info in archive.infolist()]
    )


def _python_extracting(paths: Sequence[Path], folder: Path) -> Iterator[Verdict]:
    return (_by_python(path, lambda archive, into=folder / path.stem: _extracted(archive, into)) for path in paths)  # type: ignore[misc]


def _extracted(archive: zipfile.ZipFile, into: Path) -> Verdict:
    archive.extractall(into)
    return _files(into)


def _by_python(path: Path, read: Callable[[zipfile.ZipFile], Verdict]) -> Verdict:
    try:
        with zipfile.ZipFile(path) as archive:
            return read(archive)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}"


def _unzip(paths: Sequence[Path], folder: Path) -> Iterator[Verdict]:
    return _each(paths, folder, lambda path, into: ("unzip", "-q", str(path), "-d", str(into)))


def _bsdtar(paths: Sequence[Path], folder: Path) -> Iterator[Verdict]:
    return _each(paths, folder, lambda path, into: ("bsdtar", "-xf", str(path), "-C", str(into)))


def _bsdtar_stream(paths: Sequence[Path], folder: Path) -> Iterator[Verdict]:
    """From a pipe, front to back."""
    command = 'cat "$0" | bsdtar -xf - -C "$1"'
    return _each(paths, folder, lambda path, into: ("sh", "-c", command, str(path), str(into)), needs="bsdtar")


def _each(
    paths: Sequence[Path], folder: Path, command: Callable[[Path, Path], tuple[str, ...]], needs: str = ""
) -> Iterator[Verdict]:
    """One process for each archive; a reader that is content says nothing."""

    def unpack(path: Path) -> Verdict:
        into = folder / path.stem
        into.mkdir()
        status, said = _run(*command(path, into), needs=needs)
        return _files(into) if (status, said) == (0, "") else f"ended with {status}: {said[-_SHOWN:]}"

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(unpack, paths)


def _seven_zip(paths: Sequence[Path], folder: Path) -> Iterator[Verdict]:
    """All in one process, which gives each archive a folder of its name."""
    with _alone(paths) as together:
        status, said = _run("7z", "x", "-bd", "-tzip", f"-o{folder}/*", f"{together}/*.zip")
    content = status == 0 and "Everything is Ok" in said and not re.search("warning|error", said, re.IGNORECASE)
    for path in paths:
        yield _files(folder / path.stem) if content else f"ended with {status}: {said[-_SHOWN:]}"


def _alone(paths: Sequence[Path]) -> TemporaryDirectory[str]:
    """A folder with just these archives."""
    made = quick_folder()
    for path in paths:
        (Path(made.name) / path.name).symlink_to(path)
    return made


def _java_stream(paths: Sequence[Path], folder: Path) -> Iterator[Verdict]:
    return _java("stream", paths)


def _java_file(paths: Sequence[Path], folder: Path) -> Iterator[Verdict]:
    return _java("file", paths)


def _java(mode: str, paths: Sequence[Path]) -> Iterator[Verdict]:
    """All in one process. The last section is of the one it stumbled over, or of the last, which is given twice."""
    status, said = _run("java", "-Dfile.encoding=UTF-8", str(_JAVA), mode, *map(str, paths), str(paths[-1]))
    sections = re.split(r"^archive .*\n", said, flags=re.MULTILINE)[1:-1]
    for number in range(len(paths)):
        is_read = number < len(sections)
        yield _java_files(sections[number]) if is_read else f"ended with {status}: {said[-_SHOWN:]}"


def _java_files(said: str) -> list[Found]:
    rows = [line.split(" ", 2) for line in said.splitlines()]
    return [Found(name, int(size), int(crc32, 16)) for size, crc32, name in rows]


READERS: dict[str, Reader] = {
    "python zipfile": _python_listing,
    "python extractall": _python_extracting,
    "unzip": _unzip,
    "7z": _seven_zip,
    "bsdtar": _bsdtar,
    "bsdtar, from a pipe": _bsdtar_stream,
    "java ZipInputStream": _java_stream,
    "java ZipFile": _java_file,
}


def _run(*command: str, needs: str = "") -> tuple[int, str]:
    """Status and all that was said."""
    if shutil.which(needs or command[0]) is None:
        missing(needs or command[0])
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | _LOCALE,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def _files(folder: Path) -> list[Found]:
    return [
        Found(str(Path(here, name).relative_to(folder)), *_size_and_crc32(Path(here, name)))
        for here, _, files in os.walk(folder)
        for name in files
    ]


def _size_and_crc32(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    return len(data), zlib.crc32(data)
