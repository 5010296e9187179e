"""Is this archive what was asked for? A pure judgement of its bytes."""

from __future__ import annotations

import hashlib
import io
import zipfile

from tests.chaos.workload import JobSpec

ADDED = frozenset({"MISSING-FILES.txt", "manifest.json", "SHA256SUMS"})


def judged(spec: JobSpec, data: bytes) -> list[str]:
    """What is wrong with the archive of a job; [] when every good file is in it, byte for byte, and nothing else."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Reading an entry checks its CRC too.
            found = [(name, hashlib.sha256(archive.read(name)).hexdigest()) for name in archive.namelist()]
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        return [f"does not open: {error!r}"]
    return _differences(spec, found)


def _differences(spec: JobSpec, found: list[tuple[str, str]]) -> list[str]:
    wanted = {file.name: file.sha256 for file in spec.files if not file.bad}
    names = [name for name, _ in found]
    problems = [f"twice in it: {name}" for name in sorted(set(names)) if names.count(name) > 1]
    for name, digest in found:
        if name in wanted:
            if digest != wanted[name]:
                problems.append(f"wrong bytes: {name}")
        elif name not in ADDED:
            problems.append(f"must not be in it: {name}")
    return problems + [f"missing: {name}" for name in wanted if name not in names]
