"""A newcomer's machine: a clean Debian with nothing but Python, a user without rights, and the lines of the README."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks
from tests.servers import missing

PACKAGES = "ca-certificates,python3,python3-venv"
SUITE = "bookworm"
HOME = Path("home/newcomer")
UID = 1000
# How this machine reaches package registries; none of it is the project's.
REGISTRY_FILES = ("etc/pip.conf", "etc/xdg/pip", "etc/ssl/certs/ca-certificates.crt", "etc/hosts", "etc/resolv.conf")
REGISTRY_VARIABLES = re.compile(r"PIP_(?!FIND_LINKS)\w+|SSL_CERT_FILE|https?_proxy|no_proxy", re.IGNORECASE)
# The container's system calls: /proc and /dev of its own, and no process outlives it.
INSIDE = """
mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t tmpfs -o mode=1777 none "$0/tmp" &&
exec chroot --userspec={uid}:{uid} "$0" /usr/bin/env -i HOME=/{home} PATH=/usr/bin:/bin LANG=C.UTF-8 "$@"
"""


def lines() -> list[str]:
    """What the README says at its top: how to see it work, and how to run the tests."""
    shell = [block.text.strip() for block in blocks(ROOT / "README.md") if block.language == "sh"]
    found = [text for text in shell if "demo --exit" in text or "-m pytest" in text]
    assert ["demo --exit" in text for text in found] == [True, False]
    assert not any("\n" in text for text in found)
    return found


def mirror() -> str:
    """Where this machine has its Debian packages from."""
    folder = Path("/etc/apt")
    for path in [*folder.glob("sources.list"), *folder.glob("sources.list.d/*")]:
        found = re.search(
            r"^(?:URIs:|deb(?: \[[^\]]*\])?) +(\S+/debian)/?(?:\s|$)", path.read_text("utf-8"), re.MULTILINE
        )
        if found:
            return found[1]
    return missing("a Debian mirror in /etc/apt")


def install(root: Path) -> None:
    """Make a clean Debian in `root`, with the way to the registries and the project in a new user's home."""
    debootstrap = shutil.which("debootstrap", path="/usr/sbin:/usr/bin") or missing("debootstrap")
    command = [debootstrap, "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), mirror()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for name in REGISTRY_FILES:
        source, target = Path("/") / name, root / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    settle(root)


def settle(root: Path) -> None:
    """Lay the project out as a checkout of it has it."""
    home = root / HOME / "downloader"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, home / name)
    for path in [root / HOME, home, *home.rglob("*")]:
        os.chown(path, UID, UID)


def follow(root: Path, line: str, timeout_s: float) -> str:
    """Run one line as the newcomer; gives what it said, once it has ended well."""
    inside = INSIDE.format(uid=UID, home=HOME)
    registry = [f"{name}={value}" for name, value in os.environ.items() if REGISTRY_VARIABLES.fullmatch(name)]
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", inside, str(root), *registry]
    done = subprocess.run(
        [*command, "sh", "-ec", f"cd /{HOME}/downloader\n{line}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clean Debian of all tests here; making it needs root."""
    if os.geteuid() != 0:
        missing("debootstrap for users who are not root")
    root = tmp_path_factory.mktemp("debian")
    root.chmod(0o755)
    install(root)
    return root


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_the_first_line_shows_the_service_at_work(debian: Path) -> None:
    """On a clean Debian the README's first line ends with an archive that was checked."""
    said = follow(debian, lines()[0], 900)
    print(said)
    assert "archive checked: demo.zip" in said


@pytest.mark.deep
@pytest.mark.timeout(5400)
def test_the_second_line_runs_the_tests(debian: Path) -> None:
    """There the README's second line runs the tests: all pass, or are skipped for a program that is not installed."""
    said = follow(debian, lines()[1], 5000)
    print(said)
    assert re.search(r"^=* *\d+ passed", said, re.MULTILINE), said[-2000:]
    assert not re.search(r"\d+ (?:failed|error)", said.splitlines()[-1])
