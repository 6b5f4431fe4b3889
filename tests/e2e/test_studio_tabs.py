"""The studio in two tabs on one job, and with others who change it meanwhile."""

import pytest
from tests.e2e import test_studio
from tests.e2e.test_studio import KEY, SLOW, keep, wait_until

from alphareel.testing.clips import make_clip
from alphareel.testing.service import wait_for
from alphareel_client import Client

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

RETURN = "dispatchEvent(new Event('focus'))"  # what a browser tells a page whose window is chosen again

service, browser = test_studio.service, test_studio.browser


@pytest.fixture
def open_tab(browser, service):
    """Opens signed-in pages, in none of which a script may fail."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, base_url=service.base)
    context.set_default_timeout(SLOW)
    context.add_init_script(f"origin === 'null' || sessionStorage.setItem('alphareel.api_key', '{KEY}')")
    failures = []
    context.on("weberror", lambda error: failures.append(str(error.error)))

    def opened(path):
        page = context.new_page()
        page.goto(path)
        return page

    yield opened
    context.close()
    assert failures == []


@pytest.fixture
def client(service):
    with Client(KEY, base_url=service.base) as opened:
        yield opened


@pytest.fixture
def job(client, tmp_path):
    """The ID of a completed job."""
    green = make_clip(tmp_path / "green.mp4", frames=12, width=320, height=240, rate=12, background="green")
    made = client.create_job(client.upload(green.path)["video_url"], engine="chroma")
    client.wait_for_completion(made["id"])
    return made["id"]


def mark(page, seconds=0.5):
    """Mark the middle of the frame at a moment as wrong."""
    wait_until(
        page, "[...document.querySelectorAll('.stage video')].filter(video => video.readyState >= 2).length === 2"
    )
    page.locator("#moment").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }",
        seconds,
    )
    page.focus("canvas.marks")
    page.keyboard.press("Enter")
    page.wait_for_selector("button:enabled:has-text('Undo the last mark')")


def corrections(client, job):
    return [(item["number"], item["status"]) for item in client.list_corrections(job)["items"]]


def correct(client, job, **where):
    """Correct the job by another program, and wait for it."""
    client.correct(job, points=[{"x": 20, "y": 20, "label": "keep"}], **where)
    wait_for(lambda: all(status == "completed" for _, status in corrections(client, job)))


def test_a_correction_of_one_tab_is_in_the_other_when_it_is_looked_at_again(open_tab, client, job):
    first, second = open_tab(f"/#/jobs/{job}/fix"), open_tab(f"/#/jobs/{job}/fix")
    mark(second)
    mark(first)
    first.click("text=Correct from this frame")
    first.wait_for_selector("text=revision 2")
    assert first.locator("text=meanwhile").count() == 0, "it is its own"
    second.evaluate(RETURN)
    second.wait_for_selector("text=This job was corrected meanwhile. Revision 2 is shown now. Your marks were kept.")
    second.wait_for_selector(".badge:has-text('revision 2')")
    second.wait_for_selector("text=1. 1 click at 0:00.5")
    wait_until(second, "Math.abs(document.querySelector('video.alpha').currentTime - 0.5) < 0.01")
    keep(second, "fix_second_tab")
    second.click("text=Correct from this frame")
    second.wait_for_selector(".badge:has-text('revision 3')")
    second.wait_for_selector("button:disabled:has-text('Clear marks')")
    assert corrections(client, job) == [(1, "completed"), (2, "completed")]


def test_nothing_is_sent_to_a_job_that_was_corrected_since_it_was_shown(open_tab, client, job):
    page = open_tab(f"/#/jobs/{job}/fix")
    mark(page)
    correct(client, job, time=0.2)
    page.click("text=Correct from this frame")
    page.wait_for_selector(
        "text=Nothing was sent, because this job was corrected meanwhile. Revision 2 is shown now. Your marks"
    )
    keep(page, "fix_outdated")
    assert corrections(client, job) == [(1, "completed")]
    page.click("text=Correct from this frame")
    page.wait_for_selector(".badge:has-text('revision 3')")
    page.wait_for_selector("button:disabled:has-text('Clear marks')")
    assert [item["time"] for item in client.list_corrections(job)["items"]] == [0.2, 0.5]
    assert page.locator("text=Nothing was sent").count() == 0


def test_a_correction_by_another_program_just_before_a_sent_one_is_told(open_tab, client, job):
    page = open_tab(f"/#/jobs/{job}/fix")
    mark(page)

    def sent(route):
        if route.request.method == "POST" and not corrections(client, job):
            correct(client, job, time=0.2)
        route.continue_()

    page.route("**/corrections", sent)
    page.click("text=Correct from this frame")
    page.wait_for_selector("text=This job was corrected meanwhile. Revision 3 is shown now.")
    page.wait_for_selector("button:disabled:has-text('Clear marks')")
    assert [item["time"] for item in client.list_corrections(job)["items"]] == [0.2, 0.5]


def test_a_correction_goes_on_being_shown_after_the_page_was_left(open_tab, client, job):
    page = open_tab(f"/#/jobs/{job}/fix")
    mark(page)

    def hold(route):
        """The correction stays in progress."""
        reply = route.fetch()
        if route.request.method == "GET":
            unfinished = {"status": "processing", "progress": 40, "revision": None}
            items = [{**item, **unfinished} for item in reply.json()["items"]]
            route.fulfill(json={"revision": 1, "items": items})
        else:
            route.fulfill(response=reply)

    page.route("**/corrections", hold)
    page.click("text=Correct from this frame")
    page.wait_for_selector("text=Correcting… 40 %")
    page.click("text=Back to the job")
    page.wait_for_selector(".viewer")
    page.go_back()
    page.wait_for_selector("text=Correcting… 40 %")
    page.unroute("**/corrections")
    page.wait_for_selector(".badge:has-text('revision 2')")
    page.wait_for_selector("button:disabled:has-text('Clear marks')")
    assert page.locator("text=meanwhile").count() == 0, "it is its own"


def test_a_correction_in_progress_is_shown_and_its_result_too(open_tab, client, job):
    page = open_tab(f"/#/jobs/{job}/fix")
    mark(page)
    made = {"id": "another", "number": 1, "status": "processing", "progress": 40, "revision": None, "undone": False}
    made |= {"time": 0.1, "frame": None, "points": [], "box": None, "mask_url": None, "keep": [], "drop": []}
    page.route("**/corrections", lambda route: route.fulfill(json={"revision": 1, "items": [made]}))
    page.evaluate(RETURN)
    page.wait_for_selector("text=Another correction is in progress… 40 %")
    keep(page, "fix_in_progress")
    correct(client, job, time=0.2)
    page.unroute("**/corrections")
    page.wait_for_selector("text=Revision 2 is shown now. Your marks were kept.")


def test_marks_stay_while_another_page_is_looked_at(open_tab, client, job):
    page = open_tab(f"/#/jobs/{job}/fix")
    mark(page)
    page.click("nav >> text=Jobs")
    page.wait_for_selector("h1:has-text('Jobs')")
    page.go_back()
    page.wait_for_selector("button:enabled:has-text('Undo the last mark')")
    wait_until(page, "Math.abs(document.querySelector('video.alpha').currentTime - 0.5) < 0.01")
    page.click("text=Correct from this frame")
    page.wait_for_selector(".badge:has-text('revision 2')")
    page.wait_for_selector("button:disabled:has-text('Clear marks')")
    [sent] = client.list_corrections(job)["items"]
    assert (sent["time"], len(sent["points"])) == (0.5, 1)


def test_a_job_that_was_deleted_elsewhere_is_gone_when_its_pages_are_looked_at_again(open_tab, client, job):
    page, fix, jobs = open_tab(f"/#/jobs/{job}"), open_tab(f"/#/jobs/{job}/fix"), open_tab("/#/jobs")
    page.wait_for_selector("text=Download webm")
    mark(fix)
    jobs.wait_for_selector(f"a[href='#/jobs/{job}']")
    client.delete_job(job)
    for opened in (page, fix):
        opened.evaluate(RETURN)
        opened.wait_for_selector("[role=alert]:has-text('Job not found')")
        assert opened.locator("[role=alert]").count() == 1
    assert page.locator("text=Download webm").count() == 0
    fix.wait_for_selector("canvas.marks", state="detached")
    keep(fix, "fix_deleted")
    jobs.evaluate(RETURN)
    jobs.wait_for_selector(f"a[href='#/jobs/{job}']", state="detached")


def test_a_job_page_shows_the_newest_revision_when_it_is_looked_at_again(open_tab, client, job):
    page = open_tab(f"/#/jobs/{job}")
    page.wait_for_selector("text=Download webm")
    before = page.get_attribute("a:has-text('Download webm')", "href")
    page.evaluate("document.querySelector('.viewer').dataset.seen = 'yes'")
    with page.expect_response(f"**/v1/jobs/{job}") as looked:
        page.evaluate(RETURN)
    looked.value.finished()
    page.wait_for_timeout(200)
    correct(client, job, time=0.2)
    assert page.get_attribute(".viewer", "data-seen") == "yes", "what did not change stays as it is"
    page.evaluate(RETURN)
    page.wait_for_selector(".viewer:not([data-seen])")
    assert page.get_attribute("a:has-text('Download webm')", "href").partition("?")[0] != before.partition("?")[0]


@pytest.mark.parametrize("action", ["", "/fix"])
def test_a_result_whose_connection_breaks_is_loaded_again_when_the_server_is_back(open_tab, job, action):
    page = open_tab("/#/jobs")
    asked = []
    page.route("**/files/**/*.webm?*", lambda route: (asked.append(route.request.url), route.abort()))
    page.route("**/v1/models", lambda route: route.fulfill(status=502, body="<html>"))
    page.evaluate(f"location.hash = '#/jobs/{job}{action}'")
    while not asked:
        page.wait_for_timeout(20)
    result = "document.querySelector('.stage video:is([aria-label^=Result], .alpha)')"
    wait_until(page, f"Boolean({result}?.error)")
    page.unroute("**/files/**/*.webm?*")
    page.unroute("**/v1/models")
    wait_until(page, f"!{result}.error && {result}.readyState >= 2")
