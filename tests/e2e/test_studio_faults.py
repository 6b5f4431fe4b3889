"""The studio when something goes wrong: refused keys, lost connections, wrong input; and without a mouse."""

import json
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest
from tests.e2e import test_studio
from tests.e2e.test_studio import KEY, SLOW, TOKEN, keep, wait_until

from alphareel.testing.clips import make_clip
from alphareel_client import Client

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

REFUSED = {"error": {"code": "invalid_api_key", "message": "Invalid API key", "request_id": "req_1"}}
BUSY = {"error": {"code": "invalid_state", "message": "Another correction is in progress", "request_id": "req_1"}}

service, browser = test_studio.service, test_studio.browser


@pytest.fixture
def page(browser, service):
    """A signed-in page, in which no script may fail."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, base_url=service.base)
    opened = context.new_page()
    opened.set_default_timeout(SLOW)
    failures = []
    opened.on("pageerror", lambda error: failures.append(str(error)))
    opened.add_init_script(f"sessionStorage.getItem('seen') || sessionStorage.setItem('alphareel.api_key', '{KEY}')")
    opened.add_init_script("sessionStorage.setItem('seen', 'yes')")
    opened.goto("/")
    yield opened
    context.close()
    assert failures == []


@pytest.fixture(scope="module")
def draft(service, tmp_path_factory):
    """A job that nobody starts, as the API shows it: the pages get it with other states."""
    clip = make_clip(tmp_path_factory.mktemp("draft") / "in.mp4", frames=6, width=64, height=48)
    with Client(KEY, base_url=service.base) as client:
        return client.create_job(client.upload(clip.path)["video_url"], auto_start=False)


@pytest.fixture
def completed(draft, page):
    """The ID of a completed job with a transparent WebM, whose file the tests do not need."""
    output = {"width": 64, "height": 48, "frames": 6, "size": 1, "has_alpha": True, "sha256": "0" * 64}
    engine = {"name": "builtin", "version": "1", "license": "Apache-2.0", "weights_sha256": None}
    job = {**draft, "status": "completed", "output_url": "/files/none.webm", "output_format": "webm", "output": output,
           "engine": engine, "revision": 1, "duration_seconds": 0.24}  # fmt: skip
    answer(page, f"**/v1/jobs/{draft['id']}", job)
    answer(page, "**/v1/jobs?limit=50&status=completed", {"items": [job], "total": 1, "has_more": False})
    return draft["id"]


def answer(page, pattern, body, status=200):
    page.route(pattern, lambda route: route.fulfill(status=status, json=body))


def test_a_key_that_is_no_longer_accepted_leads_to_the_sign_in_and_a_new_link_works_in_the_same_tab(page):
    answer(page, "**/v1/jobs?*", REFUSED, status=401)
    page.goto("/#/jobs")
    page.wait_for_selector("#key")
    assert "no longer accepts the key" in page.inner_text("[role=alert]")
    assert page.evaluate("sessionStorage.getItem('alphareel.api_key')") is None
    page.unroute("**/v1/jobs?*")
    page.evaluate("location.hash = '#code=not-a-code'")
    page.wait_for_selector("[role=alert]:not(:has-text('no longer'))")
    answer(page, "**/studio/sign-in", {"api_key": KEY})
    page.evaluate("location.hash = '#code=abcdef'")
    page.wait_for_selector("text=Sign out")
    page.wait_for_selector(".drop")
    assert "code" not in page.url


def test_a_link_that_is_followed_as_soon_as_the_page_appears_is_not_lost(page):
    page.add_init_script(
        "new MutationObserver((_, observer) => { if (document.querySelector('nav')) { observer.disconnect(); "
        "location.hash = '#/guides'; } }).observe(document, {childList: true, subtree: true})"
    )
    page.reload()
    page.wait_for_selector("article h1 >> text=Quickstart")


def test_a_page_that_cannot_be_loaded_says_so(page):
    page.route("**/studio/compose.js", lambda route: route.abort())
    page.click("nav >> text=Compose")
    page.wait_for_selector("[role=alert]:has-text('cannot be reached')")
    page.unroute("**/studio/compose.js")
    page.click("text=Reload the page")
    page.wait_for_selector("h1:has-text('Compose')")
    assert page.title() == "Compose – alphareel studio"  # noqa: RUF001 - the dash of titles


@pytest.mark.usefixtures("draft")
def test_the_list_of_jobs_comes_back_with_the_server_and_does_not_deny_jobs_of_other_states(page):
    page.route("**/v1/jobs?*", lambda route: route.abort())
    page.goto("/#/jobs")
    page.wait_for_selector("[role=alert]:has-text('cannot be reached')")
    page.unroute("**/v1/jobs?*")
    page.wait_for_selector("td .badge:has-text('created')")
    page.route("**/v1/jobs?*", lambda route: route.abort())
    page.evaluate("dispatchEvent(new Event('focus'))")
    page.wait_for_selector("[role=alert]:has-text('cannot be reached')")
    page.wait_for_selector("td .badge:has-text('created')")
    page.unroute("**/v1/jobs?*")
    page.wait_for_selector("[role=alert]", state="detached")
    page.select_option("select", "failed")
    page.wait_for_selector("text=No jobs with this status.")
    assert "No jobs yet" not in page.content()


def test_a_job_page_says_that_the_server_is_away_and_goes_on_when_it_is_back(page, draft):
    answer(page, f"**/v1/jobs/{draft['id']}", {**draft, "status": "processing", "progress": 40})
    page.route(f"**/v1/jobs/{draft['id']}/events", lambda route: route.abort())
    page.goto(f"/#/jobs/{draft['id']}")
    page.wait_for_selector("text=The server cannot be reached.")
    page.unroute(f"**/v1/jobs/{draft['id']}/events")
    stream = 'id: 1\nevent: progress\ndata: {"progress": 70}\n\n'
    page.route(
        f"**/v1/jobs/{draft['id']}/events",
        lambda route: route.fulfill(headers={"Content-Type": "text/event-stream"}, body=stream),
    )
    page.wait_for_selector("text=70 %")
    assert page.locator("text=The server cannot be reached.").count() == 0


def test_a_job_page_waits_for_a_server_that_is_away_at_its_first_request(page, draft):
    page.route(f"**/v1/jobs/{draft['id']}", lambda route: route.abort())
    page.goto(f"/#/jobs/{draft['id']}")
    page.wait_for_selector("text=The server cannot be reached. Waiting for it")
    page.unroute(f"**/v1/jobs/{draft['id']}")
    page.wait_for_selector(".badge:has-text('created')")


def test_a_job_whose_response_was_lost_is_not_created_twice(page, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=6, width=64, height=48)
    made = []

    def create(route):
        reply = route.fetch()
        made.append(reply.json()["id"])
        route.abort() if len(made) == 1 else route.fulfill(response=reply)

    page.route("**/v1/jobs", create)
    page.goto("/")
    page.set_input_files("#file", clip.path)
    page.click("form button.primary")
    page.wait_for_selector("text=The server cannot be reached. This step waits, and goes on by itself.")
    keep(page, "start_waits")
    page.wait_for_url("**/#/jobs/*")
    assert len(made) == 2
    assert len(set(made)) == 1


@pytest.fixture
def large(tmp_path):
    """A video that is sent resumably."""
    clip = make_clip(tmp_path / "in.mp4", frames=6, width=64, height=48)
    padding = 17 * 2**20
    film = tmp_path / "large film.mp4"
    film.write_bytes(clip.path.read_bytes() + (8 + padding).to_bytes(4, "big") + b"free" + bytes(padding))
    return film


def interrupt(page, large):
    """Upload while the server is away; the path of the unfinished upload."""
    page.route("**/v1/uploads/tus/*", lambda route: route.abort())
    page.set_input_files("#file", large)
    with page.expect_response("**/v1/uploads/tus") as begun:
        page.click("form button.primary")
    page.wait_for_selector("text=The server cannot be reached. This step waits, and goes on by itself.")
    return begun.value.headers["location"]


def test_an_interrupted_upload_says_that_it_waits_and_goes_on(page, large):
    interrupt(page, large)
    assert page.is_visible("text=Uploading large film.mp4")
    keep(page, "upload_waits")
    page.unroute("**/v1/uploads/tus/*")
    page.wait_for_url("**/#/jobs/*")
    page.wait_for_selector("h1:has-text('large film.mp4')")


def test_an_upload_that_waits_shows_how_much_was_sent(page, large):
    tools = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 20, "downloadThroughput": -1, "uploadThroughput": 2**19}
    tools.send("Network.enable")
    tools.send("Network.emulateNetworkConditions", slow)
    failed = []
    page.on("requestfailed", lambda request: failed.append(request.method))
    page.set_input_files("#file", large)
    page.click("form button.primary")
    wait_until(page, "document.querySelector('progress')?.value > 0.02")
    tools.send("Network.emulateNetworkConditions", {**slow, "offline": True})
    while failed.count("PATCH") < 3:
        page.wait_for_timeout(50)
    page.wait_for_selector("text=The server cannot be reached. This step waits, and goes on by itself.")
    assert page.evaluate("document.querySelector('progress').value") > 0.02


def test_an_upload_that_waits_is_canceled_at_once_and_removed_from_the_server(page, large):
    page.clock.install()
    path = interrupt(page, large)
    page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))  # from here on no wait of the page ends by itself
    page.unroute("**/v1/uploads/tus/*")
    with page.expect_response(lambda response: response.request.method == "DELETE") as removed:
        page.click("role=button[name=Cancel]")
    page.wait_for_selector("form button.primary:has-text('Remove the background')")
    assert (removed.value.status, removed.value.url) == (204, path)
    assert page.locator("[role=alert]").count() == 0


def test_an_upload_that_was_given_up_goes_on_where_it_stopped(page, large):
    """Ten failures in a row, whose waits take no time here."""
    page.clock.install()
    path = interrupt(page, large)
    while page.locator("[role=alert]:has-text('goes on where it stopped')").count() == 0:
        page.clock.run_for(16_000)
        page.wait_for_timeout(20)
    page.unroute("**/v1/uploads/tus/*")
    begun = []
    page.on("request", lambda r: begun.append(r.url) if r.url.endswith("/tus") and r.method == "POST" else None)
    with page.expect_request(lambda request: request.method == "PATCH") as sent:
        page.click("form button.primary")
    assert sent.value.url == path
    page.wait_for_url("**/#/jobs/*")
    assert begun == []


@pytest.fixture
def held(page):
    """Requests that send a large file, none of which arrives until the test continues it."""
    routes = []
    page.route(
        "**/v1/uploads/tus/*",
        lambda route: routes.append(route) if route.request.method == "PATCH" else route.continue_(),
    )
    return routes


def begin(page, large, held):
    """Upload until the first bytes are to be sent; the path of the unfinished upload."""
    page.set_input_files("#file", large)
    page.click("form button.primary")
    page.wait_for_selector("text=Uploading large film.mp4")
    while not held:
        page.wait_for_timeout(20)
    return held[0].request.url


def test_an_upload_goes_on_while_other_pages_are_looked_at(page, large, held):
    begin(page, large, held)
    page.click("nav >> text=Guides")
    page.wait_for_selector("article h1 >> text=Quickstart")
    page.go_back()
    page.wait_for_selector("text=Uploading large film.mp4")
    page.click("nav >> text=Jobs")
    page.wait_for_selector("h1:has-text('Jobs')")
    with page.expect_response(lambda response: response.url.endswith("/v1/jobs")) as started:
        held.pop().continue_()
    started.value.finished()
    page.wait_for_timeout(200)
    assert page.url.endswith("#/jobs"), "nobody is taken away from what they look at"
    page.click("nav >> text=Try")
    page.wait_for_selector("text=The job of large film.mp4 was started.")
    keep(page, "started_meanwhile")
    page.click("text=Show the job")
    page.wait_for_selector("h1:has-text('large film.mp4')")


def test_an_upload_goes_on_when_the_same_file_is_chosen_after_a_reload(page, large, held):
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    path = begin(page, large, held)
    held.clear()
    page.reload()
    assert asked == ["beforeunload"]
    page.wait_for_selector(".drop")
    assert begin(page, large, held) == path
    held.pop().continue_()
    page.wait_for_url("**/#/jobs/*")


def test_signing_out_ends_an_upload_also_from_another_page(page, large, held):
    path = begin(page, large, held)
    page.click("nav >> text=Guides")
    page.wait_for_selector("article h1 >> text=Quickstart")
    with page.expect_response(lambda response: response.request.method == "DELETE") as removed:
        page.click("text=Sign out")
    assert (removed.value.status, removed.value.url) == (204, path)
    page.click("nav >> text=Try")
    page.wait_for_selector("#key")
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    page.wait_for_selector(".drop")


def test_a_key_that_is_refused_during_an_upload_can_be_replaced(page, large):
    """The video is still chosen then, and sent again."""
    page.route("**/v1/uploads/tus", lambda route: route.fulfill(status=401, json=REFUSED))
    page.set_input_files("#file", large)
    page.check("input[name=model][value=human]")
    page.click("form button.primary")
    page.wait_for_selector("#key")
    page.unroute("**/v1/uploads/tus")
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    page.wait_for_selector("text=large film.mp4")
    assert page.is_checked("input[name=model][value=human]")
    assert page.locator("[role=alert]").count() == 0
    page.click("form button.primary")
    page.wait_for_url("**/#/jobs/*")


def jobs_beside(service, known=()):
    """{ID: (status, error code)} of the key's jobs."""
    with Client(KEY, base_url=service.base) as client:
        jobs = client.list_jobs(limit=100)["items"]
    return {job["id"]: (job["status"], job["error_code"]) for job in jobs if job["id"] not in known}


def endless(request):
    """The body of a request for a job, for one that does not end by itself."""
    return json.dumps({**request.post_data_json, "test": {"outcome": "slow", "seconds": 3600}})


def test_canceling_the_start_of_a_job_aborts_the_request_and_stops_what_the_server_started(page, service, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=6, width=64, height=48)
    before = jobs_beside(service)
    made, failed = [], []

    def create(route):
        if made:
            route.continue_(post_data=endless(route.request))
        else:
            made.append(route.fetch(post_data=endless(route.request)).json()["id"])  # and its response never arrives

    page.on("requestfailed", lambda request: failed.append(request.url))
    page.route("**/v1/jobs", create)
    page.set_input_files("#file", clip.path)
    page.click("form button.primary")
    page.wait_for_selector("text=Starting the job")
    while not made:
        page.wait_for_timeout(20)
    page.click("role=button[name=Cancel]")
    page.wait_for_selector("[role=status]:has-text('The job was stopped, and nothing is charged for it.')")
    keep(page, "start_canceled")
    assert failed == [f"{service.base}/v1/jobs"]
    assert jobs_beside(service, before) == {made[0]: ("failed", "cancelled")}
    page.click("form button.primary")  # another job, not the canceled one again
    page.wait_for_url("**/#/jobs/*")
    assert made[0] not in page.url


def test_a_start_that_is_canceled_while_the_server_is_away_leaves_no_job_that_runs(page, service, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=6, width=64, height=48)
    before = jobs_beside(service)
    page.route("**/v1/jobs", lambda route: route.abort())
    page.set_input_files("#file", clip.path)
    page.click("form button.primary")
    page.wait_for_selector("text=This step waits, and goes on by itself.")
    page.click("role=button[name=Cancel]")
    page.wait_for_selector("[role=status]:has-text('what it started is canceled as soon as it answers')")
    page.unroute("**/v1/jobs")
    page.route("**/v1/jobs", lambda route: route.continue_(post_data=endless(route.request)))
    page.wait_for_selector("[role=status]:has-text('The job was stopped')")
    assert list(jobs_beside(service, before).values()) == [("failed", "cancelled")]


def test_a_start_that_the_server_refuses_leaves_nothing_to_cancel(page, service, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=6, width=64, height=48)
    before = jobs_beside(service)
    asked = []
    poor = {"error": {"code": "insufficient_credits", "message": "Not enough credits", "request_id": "req_1"}}
    page.route("**/v1/jobs", lambda route: route.fulfill(status=402, json=poor) if asked else asked.append("held"))
    page.set_input_files("#file", clip.path)
    page.click("form button.primary")
    page.wait_for_selector("text=Starting the job")
    while not asked:
        page.wait_for_timeout(20)
    page.click("role=button[name=Cancel]")
    page.wait_for_selector("[role=status]:has-text('No job was started.')")
    assert jobs_beside(service, before) == {}


def test_a_start_that_is_canceled_when_its_key_ends_is_not_called_off(page, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=6, width=64, height=48)
    asked = []
    page.route("**/v1/jobs", lambda route: route.fulfill(status=401, json=REFUSED) if asked else asked.append("held"))
    page.set_input_files("#file", clip.path)
    page.click("form button.primary")
    page.wait_for_selector("text=Starting the job")
    while not asked:
        page.wait_for_timeout(20)
    page.click("role=button[name=Cancel]")
    page.wait_for_selector("#key")
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=status]:has-text('the server did not confirm it')")


def test_a_response_that_breaks_off_is_waited_for(page, draft):
    """The connection ends in the middle of the JSON."""
    whole = json.dumps(draft)
    page.route(
        f"**/v1/jobs/{draft['id']}", lambda route: route.fulfill(content_type="application/json", body=whole[:50])
    )
    page.goto(f"/#/jobs/{draft['id']}")
    page.wait_for_selector("text=The server cannot be reached. Waiting for it")
    page.unroute(f"**/v1/jobs/{draft['id']}")
    page.wait_for_selector(".badge:has-text('created')")


def test_a_comparison_that_is_canceled_stops_at_the_server(page, service, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=6, width=64, height=48)
    asked = []
    page.route("**/v1/proofs/*", lambda route: asked.append(route.request.url))  # its state never arrives
    page.set_input_files("#file", clip.path)
    page.click("text=Compare engines on six frames")
    page.wait_for_selector("text=Cutting out six frames")
    while not asked:
        page.wait_for_timeout(20)
    with page.expect_response("**/cancel") as canceled:
        page.click("role=button[name=Cancel]")
    assert asked[0].rpartition("/")[2] in canceled.value.url
    assert canceled.value.status in (200, 409), "or it was completed"


def test_texts_are_copied_where_browsers_offer_no_clipboard(page):
    """At a plain http:// address of another machine there is no navigator.clipboard."""
    page.add_init_script("Object.defineProperty(Navigator.prototype, 'clipboard', {get: () => undefined})")
    page.add_init_script("document.addEventListener('copy', () => { window.copied = getSelection().toString(); })")
    page.goto("/#/reference")
    page.reload()
    page.click("summary:has-text('/v1/models') >> nth=0")
    page.click("text=Copy as curl")
    page.wait_for_selector("text=Copied")
    assert page.evaluate("document.activeElement.textContent") == "Copied"


def test_credits_go_to_the_client_who_is_shown(page):
    ledger = {"client_id": "acme", "balance": 5, "reserved": 0, "charged": 0, "items": []}
    sent = []
    answer(page, "**/v1/admin/credits?*", ledger)
    answer(page, "**/v1/admin/config", {"settings": {}})
    page.route(
        "**/v1/admin/credits/grant", lambda route: (sent.append(route.request.post_data), route.fulfill(json={}))
    )
    page.goto("/#/operate")
    page.fill("#token", TOKEN)
    page.click("text=Continue")
    page.click("role=tab[name=Credits]")
    page.fill("#credits-client", "acme")
    page.click("text=Show")
    page.wait_for_selector("h2:has-text('acme')")
    page.fill("#credits-client", "another client")
    page.fill("#amount", "3")
    page.click("role=button[name=Grant]")
    wait_until(page, "document.querySelector('h2').textContent === 'acme'")
    page.wait_for_timeout(200)
    assert [json.loads(body)["client_id"] for body in sent] == ["acme"]


@pytest.mark.usefixtures("completed")
@pytest.mark.parametrize(
    "text", ['{"foreground": {"anchor": null}}', '{"foreground": {"offset": null}}', '{"canvas": 5}', '{"canvas": {']
)
def test_a_composition_that_cannot_be_shown_breaks_no_page_and_is_not_rendered(page, text):
    page.goto("/#/compose")
    page.click("text=As JSON")
    page.fill("#composition", text)
    page.wait_for_selector("#composition[aria-invalid=true]")
    page.click("text=Render")
    page.wait_for_selector("[role=alert]:has-text('not what the preview shows')")
    page.fill("#composition", '{"canvas": {"width": 640, "height": 480}}')
    page.wait_for_selector("#composition[aria-invalid=false]")
    assert page.input_value("[aria-label='Canvas width']") == "640"


@pytest.mark.usefixtures("completed")
def test_a_composition_is_kept_while_other_pages_are_looked_at(page, tmp_path):
    picture = tmp_path / "beach.png"
    cv2.imwrite(str(picture), np.full((40, 40, 3), 200, np.uint8))
    page.goto("/#/compose")
    page.fill("[aria-label='Canvas width']", "640")
    page.focus("[role=application]")
    page.keyboard.press("ArrowRight")
    page.select_option("#backdrop", "image")
    page.set_input_files("#media", picture)
    page.click("nav >> text=Jobs")
    page.wait_for_selector("h1:has-text('Jobs')")
    page.click("nav >> text=Compose")
    page.wait_for_selector(".hint:has-text('beach.png')")
    assert page.input_value("[aria-label='Canvas width']") == "640"
    assert '"x": 2' in page.input_value("#composition")
    wait_until(page, "document.querySelector('.canvas-stage img')?.complete")
    assert page.evaluate("document.querySelector('form').checkValidity()"), "the file need not be chosen again"
    keep(page, "compose_kept")


def test_a_frame_is_marked_by_keyboard(page, completed):
    page.goto(f"/#/jobs/{completed}/fix")
    page.focus("canvas.marks")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("button:enabled:has-text('Undo the last mark')")
    page.click("text=Clear marks")
    page.click("role=button[name=Box]")
    page.focus("canvas.marks")
    for key in ("Enter", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("button:enabled:has-text('Correct from this frame')")


def test_clicks_a_box_and_strokes_of_a_frame_are_all_sent(page, completed):
    sent = []
    answer(page, "**/v1/uploads", {"video_url": "https://example.com/mask.png"})
    page.route(
        "**/corrections",
        lambda route: (
            (sent.append(route.request.post_data_json), route.fulfill(status=409, json=BUSY))
            if route.request.method == "POST"
            else route.fulfill(json={"revision": 1, "items": []})
        ),
    )
    page.goto(f"/#/jobs/{completed}/fix")
    page.focus("canvas.marks")
    page.keyboard.press("Enter")
    page.click("text=Box")
    page.focus("canvas.marks")
    for key in ("Enter", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.click("text=Brush: keep")
    page.focus("canvas.marks")
    page.keyboard.press("Enter")
    with page.expect_request(lambda request: request.method == "POST" and request.url.endswith("/corrections")):
        page.click("text=Correct from this frame")
    page.wait_for_selector("[role=alert]:has-text('Another correction')")
    page.wait_for_selector("button:enabled:has-text('Correct from this frame')")
    [body] = sent
    assert body["mask_url"] == "https://example.com/mask.png"
    assert [point["label"] for point in body["points"]] == ["remove"]
    assert len(body["box"]) == 4


def test_a_correction_goes_on_when_the_server_is_away_meanwhile(page, completed):
    """A page that gives up would show a failure, and keep marks that were applied."""
    made = {"id": "c1", "number": 1, "status": "processing", "progress": 10, "revision": None, "time": 0.1, "frame": None,
            "points": [], "box": None, "mask_url": None, "keep": [], "drop": [], "undone": False, "undoes": None}  # fmt: skip
    looks = []

    def corrections(route):
        if route.request.method == "POST":
            looks.append("post")
            route.fulfill(json=made)
        elif not looks:
            route.fulfill(json={"revision": 1, "items": []})
        elif len(looks) < 3:
            looks.append("away")
            route.abort() if len(looks) == 2 else route.fulfill(status=502, body="<html>")
        else:
            route.fulfill(
                json={"revision": 2, "items": [{**made, "status": "completed", "progress": 100, "revision": 2}]}
            )

    page.route("**/corrections", corrections)
    page.goto(f"/#/jobs/{completed}/fix")
    page.focus("canvas.marks")
    page.keyboard.press("Enter")
    page.click("text=Correct from this frame")
    page.wait_for_selector("button:disabled:has-text('Correct from this frame')")
    assert looks == ["post", "away", "away"]
    assert page.locator("[role=alert]:has-text('reached')").count() == 0


@pytest.mark.usefixtures("completed")
def test_the_upload_of_a_background_shows_its_progress_and_can_be_canceled(page, tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(bytes(4 * 2**20))
    page.goto("/#/compose")
    page.select_option("#backdrop", "video")
    page.set_input_files("#media", film)
    tools = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 20, "downloadThroughput": -1, "uploadThroughput": 2**18}
    tools.send("Network.enable")
    tools.send("Network.emulateNetworkConditions", slow)
    page.click("text=Render")
    wait_until(page, "document.querySelector('progress[aria-label=\"Uploading film.mp4\"]')?.value > 0.02")
    keep(page, "compose_upload")
    page.click("role=button[name=Cancel]")
    page.wait_for_selector("button:has-text('Render')")
    assert page.locator("[role=alert]").count() == 0
    tools.send("Network.emulateNetworkConditions", {**slow, "offline": True})
    page.click("text=Render")
    page.wait_for_selector("[role=alert]:has-text('connection was lost')")
    assert page.input_value("#media").endswith("film.mp4"), "it can be sent again"


def test_a_file_dropped_beside_its_place_does_not_replace_the_page(page):
    page.wait_for_selector(".drop")
    dropped = "document.body.dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true}))"
    assert page.evaluate(dropped) is False


def test_a_wrong_number_among_closed_options_is_shown(page, tmp_path):
    page.set_input_files("#file", make_clip(tmp_path / "in.mp4", frames=3).path)
    page.click("text=More options")
    page.fill("#seconds", "0")
    page.click("text=More options")
    page.click("text=Remove the background >> nth=-1")
    wait_until(page, "document.querySelector('details').open")


def test_a_key_can_be_made_on_a_phone(page):
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/#/operate")
    page.fill("#token", TOKEN)
    page.click("text=Continue")
    page.click("role=tab[name=Keys]")
    page.wait_for_selector("#client")
    widths = page.evaluate(
        "['client', 'keynote'].map((id) => document.getElementById(id).getBoundingClientRect().width)"
    )
    assert min(widths) > 120
