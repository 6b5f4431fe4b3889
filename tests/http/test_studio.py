"""The studio's pages as a browser gets them, and the exchange of a sign-in code for a key."""

import gzip
import hashlib
import json
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import pytest

from alphareel.db.api_keys import ApiKeyStore
from alphareel.http import guides
from alphareel.service.studio import LIFETIME, SignInCodes

FOLDER = files("alphareel.http") / "studio"
SCRIPTS = [entry.name for entry in FOLDER.iterdir() if entry.name.endswith(".js")]


def test_the_first_page_allows_only_what_comes_from_this_server(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", page.text), "inline code that the policy forbids"
    assert "http" not in page.text.replace("http://www.w3.org", ""), "everything is on this server"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("style.css", "text/css"), ("icon.svg", "image/svg+xml"), *((name, "text/javascript") for name in SCRIPTS)],
)
def test_every_file_has_its_type_and_is_checked_again_after_an_upgrade(client, name, kind):
    file = client.get(f"/studio/{name}")
    assert file.status_code == 200
    assert file.headers["content-type"].startswith(kind)
    assert file.headers["cache-control"] == "no-cache"
    again = client.get(f"/studio/{name}", headers={"If-None-Match": file.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_files_are_compressed_for_clients_that_accept_it(client):
    with client.stream("GET", "/studio/style.css", headers={"Accept-Encoding": "gzip"}) as response:
        raw = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw) == (FOLDER / "style.css").read_bytes()


def test_the_first_page_is_small():
    """Everything that the page loads before the user does anything, compressed: at most 150 kB."""
    first = [
        "index.html",
        "style.css",
        "icon.svg",
        "app.js",
        "api.js",
        "ui.js",
        "try.js",
        "start.js",
        "recent.js",
        "formats.js",
    ]
    sizes = [len(gzip.compress((FOLDER / name).read_bytes())) for name in [*first, "vendor/htm-preact.js"]]
    assert sum(sizes) < 40_000


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "vendor", "", "vendor/../../app.py", "style.css/x"])
def test_nothing_outside_of_the_folder_is_served(client, name):
    refused = client.get(f"/studio/{name}")
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "not_found"


def test_vendored_files_are_what_the_registry_published():
    vendor = FOLDER / "vendor"
    listed = json.loads((vendor / "vendored.json").read_text())
    scripts = {entry.name for entry in vendor.iterdir() if entry.name.endswith(".js")}
    assert scripts == listed.keys()
    for name, facts in listed.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == facts["sha256"]
        assert all(package in (vendor / "LICENSES.txt").read_text() for package in facts["licenses"])


def test_a_setting_takes_the_studio_away(make_client):
    client = make_client(http={"studio": False})
    assert client.get("/").status_code == 404
    assert client.get("/studio/app.js").status_code == 404
    assert client.post("/studio/sign-in", json={"code": "x"}).status_code == 404


def sign_in_codes(harness, **options):
    store = ApiKeyStore(harness.database, clock=harness.clock)
    return SignInCodes(store, harness.clock, secret="s" * 32, **options)


@pytest.fixture
def codes(client, harness, key):
    made = client.app.state.context.sign_in_codes = sign_in_codes(harness, api_key=key)
    return made


def test_a_code_is_exchanged_for_the_key_once(client, codes, key):
    code = codes.make()
    answer = client.post("/studio/sign-in", json={"code": code})
    assert answer.json() == {"api_key": key}
    assert answer.headers["cache-control"] == "no-store"
    again = client.post("/studio/sign-in", json={"code": code})
    assert (again.status_code, again.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "change",
    [
        lambda code: code[:-20] + code[-20:].swapcase(),
        lambda code: code[:20].swapcase() + code[20:],
        lambda _: "é",
        lambda _: "AAAA",
    ],
)
def test_a_forged_code_is_refused(client, codes, change):
    assert client.post("/studio/sign-in", json={"code": change(codes.make())}).status_code == 401


def test_a_code_expires(client, codes):
    code = codes.make()
    later = codes.clock.now() + LIFETIME * 1.01
    client.app.state.context.sign_in_codes = replace(codes, clock=SimpleNamespace(now=lambda: later))
    assert client.post("/studio/sign-in", json={"code": code}).status_code == 401


def test_without_a_known_secret_a_code_gives_a_key_of_its_own(client, harness):
    codes = client.app.state.context.sign_in_codes = sign_in_codes(harness)
    first, second = (client.post("/studio/sign-in", json={"code": codes.make()}).json()["api_key"] for _ in "ab")
    assert client.get("/v1/jobs", headers={"X-Api-Key": second}).status_code == 200
    assert client.get("/v1/jobs", headers={"X-Api-Key": first}).status_code == 401, "the former session has ended"


def test_a_server_without_codes_says_how_to_sign_in(client):
    client.app.state.context.sign_in_codes = None
    refused = client.post("/studio/sign-in", json={"code": "x"})
    assert refused.status_code == 404
    assert "API key" in refused.json()["error"]["message"]


def test_guessing_codes_is_slowed_down(make_client, harness):
    client = make_client(rate_limits={"auth_failures": 3})
    client.app.state.context.sign_in_codes = sign_in_codes(harness)
    statuses = [client.post("/studio/sign-in", json={"code": "AAAA"}).status_code for _ in range(5)]
    assert statuses[-1] == 429


@pytest.mark.parametrize("name", [guide.name for guide in guides.list_guides()])
def test_every_guide_is_a_page_whose_links_lead_somewhere(client, name):
    page = client.get(f"/studio/guides/{name}")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.count("<h1 ") == 1
    assert not re.search(r"<script|\son\w+=|style=", page.text), "what the policy forbids"
    for link in re.findall(r'href="([^"]+)"', page.text):
        if link.startswith("#/guides/"):
            _, _, linked, *anchor = link.split("/")
            target = client.get(f"/studio/guides/{linked}").text
            assert not anchor or f'id="{linked}/{anchor[0]}"' in target, link
        else:
            assert link == "#/reference" or link.startswith("https://"), link


def test_the_guides_are_the_pages_of_the_documentation():
    docs = Path(__file__).parents[2] / "docs"
    for guide in guides.list_guides():
        page = f"{guide.name}.md"
        assert (FOLDER / "guides" / page).read_bytes() == (docs / page).read_bytes(), f"{page} is an old copy"


def test_the_guides_are_listed_with_their_titles(client):
    listed = client.get("/studio/guides").json()["guides"]
    assert {"name": "quickstart", "title": "Quickstart", "group": "Start"} in listed
    assert client.get("/studio/guides/nothing").status_code == 404
    assert client.get("/studio/guides/quickstart.md").status_code == 404
