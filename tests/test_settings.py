"""Where settings come from, and how a wrong one is told."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from downloader.config import Settings
from downloader.errors import ConfigError
from downloader.settings import load, reference, sections, show

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder without a config.toml."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a settings file."""

    def written(text: str) -> Path:
        path = tmp_path / "given.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def refused(
    path: Path | None = None, flags: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """The one line that the start ends with."""
    with pytest.raises(ConfigError) as caught:
        load(path, flags or {}, environment or {})
    assert "\n" not in caught.value.message
    return caught.value.message


def test_without_anything_the_defaults_count() -> None:
    """No file, no environment, no flags: the defaults."""
    assert load(None, {}, {}) == Settings()


def test_flags_beat_environment_beats_file(file: Callable[[str], Path]) -> None:
    """The nearer to the command, the stronger; what nobody names stays at its default."""
    path = file('[server]\nhost = "::1"\nport = 1\ndrain_s = 1\n')
    environment = {"DOWNLOADER_SERVER__PORT": "2", "DOWNLOADER_SERVER__DRAIN_S": "2", "HOME": "/nowhere"}
    server = load(path, {"server.drain_s": "3"}, environment).server
    assert (server.host, server.port, server.drain_s, server.public_url) == ("::1", 2, 3.0, "")


def test_a_config_toml_in_the_working_directory_is_found(tmp_path: Path) -> None:
    """Without --config, ./config.toml is read; a given file takes its place altogether."""
    (tmp_path / "config.toml").write_text("[server]\nport = 7\nmax_body_bytes = 9\n", encoding="utf-8")
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 8\n", encoding="utf-8")
    assert load(None, {}, {}).server.port == 7
    given = load(other, {}, {}).server
    assert (given.port, given.max_body_bytes) == (8, Settings().server.max_body_bytes)
    assert load(None, {}, {}, files=False) == Settings()


@pytest.mark.parametrize("text", ["a.example,b.example", " a.example , b.example ", '["a.example", "b.example"]'])
def test_lists_from_texts(text: str) -> None:
    """In the environment and in flags a list is JSON or separated by commas."""
    assert load(None, {}, {"DOWNLOADER_SOURCES__DENY_HOSTS": text}).sources.deny_hosts == ["a.example", "b.example"]
    assert load(None, {"sources.deny_hosts": text}, {}).sources.deny_hosts == ["a.example", "b.example"]
    assert load(None, {"sources.deny_hosts": ""}, {}).sources.deny_hosts == []


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("loopback", "loopback"), ("1", True)])
def test_truths_from_texts(text: str, value: object) -> None:
    """True and false may be written as text where a key also takes a word."""
    assert load(None, {}, {"DOWNLOADER_ACCESS__OPEN": text}).access.open == value


def test_secrets_from_files(tmp_path: Path) -> None:
    """With _FILE the environment names a file that holds the value, as secrets are mounted; its last newline is cut."""
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t\n", encoding="utf-8")
    url = tmp_path / "url"
    url.write_text("redis://:pw@host/0", encoding="utf-8")
    names = {"DOWNLOADER_STORAGE__SECRET_ACCESS_KEY_FILE": str(secret), "DOWNLOADER_REDIS__URL_FILE": str(url)}
    settings = load(None, {}, names)
    assert settings.storage.secret_access_key.get_secret_value() == "s3cr3t"
    assert settings.redis.url == "redis://:pw@host/0"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nprot = 1\n", ["server.prot", "given.toml", "did you mean server.port?"]),
        ("[sever]\nport = 1\n", ["sever", "given.toml", "did you mean server?"]),
        ("[zzz]\n", ["zzz", "given.toml", "config.toml for all keys"]),
        ("port = 1\n", ["port", "given.toml"]),
        ("server = 1\n", ["server", "given.toml", "[server]"]),
        ('[server]\nport = "x"\n', ["server.port", "given.toml", "integer", "'x'"]),
        ("[server]\nport = 70000\n", ["server.port", "given.toml", "65535", "70000"]),
        ('[storage]\naddressing = "sideways"\n', ["storage.addressing", "'path'", "sideways"]),
        ('[sources]\nallow_networks = ["10.0.0.0/33"]\n', ["sources.allow_networks", "10.0.0.0/33"]),
        ('[sources]\nurl_template = "https://a/"\n', ["sources.url_template", "{file_id}"]),
        ("[worker]\nlease_s = 1\n", ["worker", "given.toml", "renew_s"]),
        ("[memory]\nbudget_bytes = 25165824\n", ["memory.budget_bytes", "given.toml", "at least"]),
        ("[server\n", ["given.toml", "not TOML", "line 1"]),
        ("[server]\nhost = localhost\n", ["given.toml", "not TOML", "line 2"]),
    ],
)
def test_a_bad_file_is_told_in_one_line(file: Callable[[str], Path], text: str, words: list[str]) -> None:
    """Unknown keys, bad values and broken TOML name the key, the file and the remedy."""
    message = refused(file(text))
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DOWNLOADER_SERVER__PROT": "1"}, ["DOWNLOADER_SERVER__PROT", "environment", "DOWNLOADER_SERVER__PORT?"]),
        ({"DOWNLOADER_SERVER_PORT": "1"}, ["DOWNLOADER_SERVER_PORT", "did you mean DOWNLOADER_SERVER__PORT?"]),
        ({"DOWNLOADER_SERVER__PORT": "x"}, ["server.port", "DOWNLOADER_SERVER__PORT", "integer"]),
        ({"DOWNLOADER_SOURCES__DENY_HOSTS": "[a"}, ["sources.deny_hosts", "DOWNLOADER_SOURCES__DENY_HOSTS", "a,b"]),
        ({"DOWNLOADER_REDIS__URL_FILE": "/no/such"}, ["DOWNLOADER_REDIS__URL_FILE", "/no/such", "No such file"]),
        (
            {"DOWNLOADER_REDIS__URL_FILE": "/dev/null", "DOWNLOADER_REDIS__URL": "redis://a"},
            ["redis.url", "DOWNLOADER_REDIS__URL_FILE", "twice"],
        ),
    ],
)
def test_a_bad_environment_is_told_in_one_line(environment: dict[str, str], words: list[str]) -> None:
    """A misspelt DOWNLOADER_ variable never passes for a wish; the variable is named as it was written."""
    message = refused(environment=environment)
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("flag", "text", "words"),
    [
        ("server.prot", "1", ["server.prot", "flag", "server.port?"]),
        ("server", "1", ["server", "flag"]),
        ("server.port", "-1", ["server.port", "flag", "-1"]),
    ],
)
def test_a_bad_flag_is_told_in_one_line(flag: str, text: str, words: list[str]) -> None:
    """Flags are checked as strictly as the file."""
    message = refused(flags={flag: text})
    assert [word for word in words if word not in message] == [], message


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    """A missing file is fine only when nobody asked for it; a folder is none."""
    assert "no such file" in refused(tmp_path / "absent.toml")
    assert "cannot be read" in refused(tmp_path)


def test_a_secret_is_not_repeated_in_the_error(file: Callable[[str], Path]) -> None:
    """What is wrong with a secret is told without the secret, and a password in a URL is masked."""
    assert "hunter2" not in refused(file('[storage]\nsecret_access_key = ["hunter2"]\n'))


def test_show_is_toml_that_loads_again_without_secrets() -> None:
    """`downloader config` prints what is in effect; secrets and the password of Redis are masked, the rest is exact."""
    flags = {
        "storage.secret_access_key": "hunter2",
        "redis.url": "rediss://worker:hunter2@redis.example:6380/1",
        "server.cors_origins": 'a"b,c\\d',
        "access.open": "false",
    }
    settings = load(None, flags, {})
    text = show(settings)
    assert "hunter2" not in text
    assert "rediss://worker:" in text
    assert "@redis.example:6380/1" in text
    again = tomllib.loads(text)
    assert again["server"]["cors_origins"] == ['a"b', "c\\d"]
    masked: dict[str, Any] = {"redis": {"url"}, "storage": {"secret_access_key"}, "webhook": {"secret"}}
    for name, section in sections(settings):
        hidden = masked.get(name, set())
        assert {key: value for key, value in again[name].items() if key not in hidden} == section.model_dump(
            exclude=hidden
        )


def test_config_toml_is_the_reference() -> None:
    """The committed file is what `python -m downloader config --reference` prints."""
    assert (ROOT / "config.toml").read_text(encoding="utf-8") == reference()


def test_config_toml_loads_as_the_defaults(tmp_path: Path) -> None:
    """The reference file changes nothing, and with every key uncommented it still says the defaults."""
    assert load(ROOT / "config.toml", {}, {}) == Settings()
    lines = reference().splitlines()
    uncommented = tmp_path / "all.toml"
    uncommented.write_text(
        "\n".join(
            line.removeprefix("#") for line in _without_tables(lines) if not line.startswith("# ") and line != "#"
        )
    )
    assert load(uncommented, {}, {}) == Settings()
    tables = sum(line.startswith("#[[") for line in lines)
    keys = sum(len(type(section).model_fields) for _, section in sections(Settings())) - tables
    assert sum(len(table) for table in tomllib.loads(uncommented.read_text()).values()) == keys


def _without_tables(lines: list[str]) -> Iterator[str]:
    """Leave out the examples of tables, which name nothing that is there."""
    in_table = False
    for line in lines:
        in_table = line.startswith("#[[") or (in_table and bool(line))
        if not in_table:
            yield line


def test_every_key_is_described() -> None:
    """No key is left without a sentence."""
    for name, section in sections(Settings()):
        assert type(section).__doc__
        for key, field in type(section).model_fields.items():
            assert field.description, f"{name}.{key}"
