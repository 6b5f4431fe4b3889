"""The environment, read once, checked, and documented."""

import ipaddress
import os
from pathlib import Path

import pytest

from alphareel.db.database import normalized
from alphareel.domain.errors import InvalidRequest
from alphareel.server.settings import as_environment, load_settings, reference, shown, unknown_variables

DOCS = Path(__file__).parents[2] / "docs" / "settings.md"


def test_defaults_need_nothing(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.storage.data_dir == tmp_path / "home/.local/share/alphareel"
    assert settings.database.url == f"sqlite:///{settings.storage.data_dir}/alphareel.db"
    assert settings.storage.url == f"file://{settings.storage.data_dir}/objects"
    assert (settings.http.host, settings.http.port, settings.worker.jobs) == ("127.0.0.1", 8080, 1)
    assert not settings.storage.data_dir.exists(), "reading settings makes nothing"


def test_the_data_folder_moves_what_lies_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALPHAREEL_DATA_DIR", str(tmp_path / "a b"))
    assert load_settings().database.url == f"sqlite:///{tmp_path}/a b/alphareel.db"
    assert load_settings().storage.url == f"file://{tmp_path}/a%20b/objects"


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "API_KEY", "DATABASE_URL", "DATA_DIR", "FETCH_ALLOW_CIDRS"):
        monkeypatch.setenv(f"ALPHAREEL_{name}", "")
    assert load_settings().http.port == 8080
    assert load_settings().access.api_key is None


def test_networks_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAREEL_FETCH_ALLOW_CIDRS", "10.0.0.0/8, fd00::/8")
    assert load_settings().fetch.allow_cidrs == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("PORT", "eighty"),
        ("API_KEY", "short"),
        ("DATABASE_URL", "mysql://host/db"),
        ("STORAGE_URL", "ftp://host/folder"),
        ("PUBLIC_URL", "example.com"),
        ("LOG_LEVEL", "loud"),
        ("FETCH_ALLOW_CIDRS", "10.0.0.1/8"),
        ("WORKERS", "-1"),
        ("MAX_SIDE", "-1"),
        ("LEGACY_ROUTES", "perhaps"),
        ("PROBE_SECONDS", "inf"),
        ("JOB_WALL_SECONDS", "nan"),
        ("LINK_SECONDS", "9" * 26),
        ("TUS_EXPIRE_SECONDS", "1e300"),
        ("DATABASE_LOCK_SECONDS", "9999999"),
        ("JOB_MEMORY_BYTES", "9" * 26),
        ("JOB_CPU_SECONDS", "9" * 26),
        ("MAX_RUNNING_PER_KEY", "9" * 26),
        ("DATA_DIR", "~nobody-of-this-name/data"),
        ("MODELS_DIR", "~nobody-of-this-name/models"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "sqlite:///var/lib/alphareel.db"),
        ("DATABASE_URL", "postgresql"),
        ("RATE_LIMIT_URL", "redis"),
        ("PUBLIC_URL", "http://host:99999"),
        ("PUBLIC_URL", "http://user:password@host"),
        ("PUBLIC_URL", "http://ho st"),
        ("API_KEY", "a key and a line break\n"),
        ("ADMIN_TOKEN", "          "),
    ],
)
def test_a_bad_value_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ALPHAREEL_{name}", value)
    with pytest.raises(InvalidRequest, match=f"ALPHAREEL_{name}") as refusal:
        load_settings()
    assert str(refusal.value).count("ALPHAREEL_") == 1, "nothing else is at fault"


@pytest.mark.parametrize("url", ["postgresql://u:s3cr3t@[::1/x", "postgresql://u:s3cr3t@host:port/x", "s3cr3t"])
def test_a_bad_address_of_a_database_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidRequest, match="ALPHAREEL_DATABASE_URL") as refusal:
        normalized(url)
    assert "s3cr3t" not in str(refusal.value)


@pytest.mark.parametrize("driver", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_postgresql_is_reached_with_our_driver_whatever_the_address_names(driver: str) -> None:
    assert normalized(f"{driver}://u:p@host/x").drivername == "postgresql+psycopg"


def test_every_bad_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAREEL_PORT", "x")
    monkeypatch.setenv("ALPHAREEL_WORKERS", "x")
    with pytest.raises(InvalidRequest) as refusal:
        load_settings()
    assert "ALPHAREEL_PORT" in str(refusal.value)
    assert "ALPHAREEL_WORKERS" in str(refusal.value)


def test_a_bad_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAREEL_API_KEY", "s3cr3t")
    with pytest.raises(InvalidRequest) as refusal:
        load_settings()
    assert "s3cr3t" not in str(refusal.value)


def test_another_process_reads_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {
        "DATA_DIR": str(tmp_path),
        "API_KEY": "a long enough key, with ünïcode",
        "FETCH_ALLOW_CIDRS": "10.0.0.0/8,127.0.0.1/32",
        "JOB_WALL_SECONDS": "1234567.5",
        "SHOW_PENDING": "yes",
        "PUBLIC_URL": "https://example.com/prefix/",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"ALPHAREEL_{name}", value)
    settings = load_settings()
    for name in [n for n in os.environ if n.startswith("ALPHAREEL_")]:
        monkeypatch.delenv(name)
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_a_secret_does_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAREEL_API_KEY", "my-secret-key")
    assert "my-secret-key" not in repr(load_settings())


def test_the_page_describes_every_setting() -> None:
    assert reference() in DOCS.read_text(), "docs/settings.md is out of date: paste settings.reference() into it"


def test_what_is_shown_to_operators_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAREEL_ADMIN_TOKEN", "a token for operators")
    monkeypatch.setenv("ALPHAREEL_DATABASE_URL", "postgresql://user:pass@host/name")
    told = shown(load_settings())
    assert (told["admin_token"], told["api_key"]) == ("set", "unset")
    assert told["database_url"] == "postgresql://host/name"
    assert (told["port"], told["metrics_open"]) == (8080, False)


def test_an_order_of_engines_is_checked_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAREEL_TIERS", "human=rvm,builtin")
    assert load_settings().models.tiers == "human=rvm,builtin"
    monkeypatch.setenv("ALPHAREEL_TIERS", "human=nonsense")
    with pytest.raises(InvalidRequest, match="ALPHAREEL_TIERS"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "size"),
    [("1048576", 2**20), ("500MB", 500_000_000), ("2GiB", 2**31), ("1.5 gib", 3 * 2**29), ("64kb", 64_000), ("7B", 7)],
)
def test_a_size_may_have_a_unit(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "MAX_UPLOAD_BYTES",
        "MAX_STORAGE",
        "MAX_STORAGE_PER_KEY",
        "JOB_MEMORY_BYTES",
        "MIN_BODY_RATE",
        "MIN_READ_RATE",
        "MIN_FETCH_RATE",
    ):
        monkeypatch.setenv(f"ALPHAREEL_{name}", text)
    got = load_settings()
    assert {
        got.limits.max_upload_bytes,
        got.storage.max_bytes,
        got.storage.max_bytes_per_key,
        got.worker.memory_bytes,
        got.http.min_body_rate,
        got.http.min_read_rate,
        got.fetch.min_rate,
    } == {size}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MAX_STORAGE", "500 parrots", "must be a number of bytes, or one with KB, MB"),
        ("MAX_STORAGE", "1.5", "must be a number of bytes"),
        ("MAX_STORAGE", "-1GB", "must be a number of bytes"),
        ("FETCH_ALLOW_CIDRS", "abc", "must be networks such as 10.0.0.0/8"),
        ("FETCH_ALLOW_CIDRS", "10.0.0.0/8,10.1.2.3/16", "10.1.2.3/16 is an address in one; write 10.1.0.0/16"),
        ("TRUSTED_PROXIES", "proxy.example.com", "got 'proxy.example.com'"),
    ],
)
def test_a_bad_size_or_network_is_told_in_words(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ALPHAREEL_{name}", value)
    with pytest.raises(InvalidRequest) as refusal:
        load_settings()
    assert f"ALPHAREEL_{name} must be" in str(refusal.value)
    assert words in str(refusal.value)
    assert "[" not in str(refusal.value)


def test_a_single_address_is_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAREEL_TRUSTED_PROXIES", "10.0.0.7,::1")
    assert [str(network) for network in load_settings().http.trusted_proxies] == ["10.0.0.7/32", "::1/128"]


def test_a_variable_that_is_no_setting_is_found_with_the_nearest_one() -> None:
    environment = {
        "ALPHAREEL_PORT": "1",
        "alphareel_host": "x",
        "ALPHAREEL_BASE_URL": "x",
        "ALPHAREEL_WORKER": "1",
        "ALPHAREEL_MAX_UPLOAD_BYTE": "1",
        "ALPHAREEL_ZZZ": "1",
        "PATH": "x",
    }
    assert unknown_variables(environment) == {
        "ALPHAREEL_WORKER": "ALPHAREEL_WORKERS",
        "ALPHAREEL_MAX_UPLOAD_BYTE": "ALPHAREEL_MAX_UPLOAD_BYTES",
        "ALPHAREEL_ZZZ": None,
    }
