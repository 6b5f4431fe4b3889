"""alphareel keys: at the machine itself, with no service running and no token."""

from collections.abc import Callable

import pytest

from alphareel.cli.main import app
from alphareel.domain.errors import InvalidApiKey, InvalidRequest, InvalidState, NotFound
from alphareel.server import installation
from alphareel.server.settings import load_settings
from alphareel.service.api_keys.service import ApiKeyService

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> str:
        app(["keys", *words], result_action="return_value")
        return capsys.readouterr().out

    return run


def owner(secret: str) -> str:
    with installation.open_installation(load_settings()) as place:
        return ApiKeyService(place.keys).authenticate(secret).fingerprint


def test_a_key_is_created_disabled_enabled_rotated_and_deleted(run: Run) -> None:
    secret = run("create", "studio-7", "--note", "night").strip()
    fingerprint = owner(secret)
    run("disable", fingerprint)
    with pytest.raises(InvalidApiKey):
        owner(secret)
    run("enable", fingerprint)
    fresh = run("rotate", fingerprint, "--grace-seconds", "0").strip()
    renewed = owner(fresh)
    assert renewed != fingerprint
    with pytest.raises(InvalidApiKey):
        owner(secret)
    assert run("delete", renewed) == f"{renewed} is deleted\n"
    with pytest.raises(InvalidApiKey):
        owner(fresh)
    assert renewed not in run("list")


def test_the_list_names_keys_and_shows_no_secret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    secret = run("create", "studio-7").strip()
    listed = run("list")
    assert owner(secret) in listed, "a narrow terminal does not cut what has to be copied"
    assert "studio-7" in listed
    assert secret not in listed


def test_an_unknown_fingerprint_is_an_error(run: Run) -> None:
    with pytest.raises(NotFound):
        run("disable", "fp_none")


def test_credits_are_given_shown_and_lifted(run: Run) -> None:
    run("create", "studio-7")
    given = run("grant", "studio-7", "12.5", "--start-charging")
    assert given == "studio-7: balance 12.5, reserved 0, charged 0\n"
    assert "balance 15," in run("grant", "studio-7", "2.5")
    assert "balance 3," in run("balance", "studio-7", "--to", "3")
    assert "balance unlimited," in run("balance", "studio-7", "--unlimited")
    assert "balance unlimited," in run("balance", "studio-7")
    with pytest.raises(NotFound, match="nobody has no key"):
        run("balance", "nobody")


def test_a_grant_says_no_to_an_unlimited_client_and_to_one_without_a_key(run: Run) -> None:
    run("create", "studio-7")
    with pytest.raises(InvalidState, match="unlimited") as refused:
        run("grant", "studio-7", "12.5")
    assert "--start-charging" in refused.value.hint
    with pytest.raises(NotFound, match="studoi-7 has no key"):
        run("grant", "studoi-7", "12.5", "--start-charging")
    with pytest.raises(NotFound):
        run("balance", "studoi-7", "--to", "3")


def test_a_balance_is_either_a_number_or_unlimited(run: Run) -> None:
    run("create", "studio-7")
    with pytest.raises(InvalidRequest, match="either a number or unlimited"):
        run("balance", "studio-7", "--to", "3", "--unlimited")


def test_a_key_gets_limits_and_loses_them_again(run: Run) -> None:
    fingerprint = owner(run("create", "studio-7").strip())
    shown = run("limit", fingerprint, "--running", "2", "--queued", "0").splitlines()
    assert shown == [
        "write_per_minute default",
        "read_per_minute default",
        "max_running_jobs 2",
        "max_queued_jobs 0",
        "max_storage_bytes default",
        "max_credits_per_month default",
    ]
    assert "max_running_jobs default" in run("limit", fingerprint, "--running", "default")
    assert "max_queued_jobs 0" in run("limit", fingerprint)
