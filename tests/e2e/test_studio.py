"""The studio in a real browser, over a real service: what people do in it, and whether everyone can."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from tests.e2e.browsers import chromium_program

from alphareel.domain.clip import Limits
from alphareel.media.reader import open_reader
from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess
from alphareel_client import Client

playwright_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
axe_module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb"]  # fmt: skip
KEY, TOKEN = "studio-key-" + "k" * 32, "studio-admin-token-" + "t" * 16
SLOW = 60_000  # milliseconds after which a page that shows nothing has failed
FIRST_PAGE_BYTES = 150_000
# Of the first body of bytes 5 MiB arrive, and the page is told that its connection broke.
BREAK_A_CONNECTION = """
const send = XMLHttpRequest.prototype.send;
let broken = false;
XMLHttpRequest.prototype.send = function (body) {
  if (broken || !(body instanceof Blob)) return send.call(this, body);
  broken = true;
  this.onload = this.onerror;
  return send.call(this, body.slice(0, 5 * 2 ** 20));
};
"""
# Shows the frame at 0.525 seconds of a paused video.
SEEK = """video => new Promise(done => {
  video.pause();
  video.addEventListener("seeked", () => requestAnimationFrame(() => requestAnimationFrame(() => done(true))), {once: true});
  video.currentTime = 0.525;
})"""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    settings = {"API_KEY": KEY, "ADMIN_TOKEN": TOKEN, "WRITE_PER_MINUTE": 600}
    with ServiceProcess(tmp_path_factory.mktemp("studio") / "data", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    program = chromium_program()
    with playwright_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser, service):
    """A signed-in page. At its end no script may have failed and nothing may have been fetched from elsewhere."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, base_url=service.base)
    opened = context.new_page()
    opened.set_default_timeout(SLOW)
    problems, hosts = [], set()
    opened.on(
        "console",
        lambda message: (
            problems.append(f"{message.text} {message.location['url']}") if message.type == "error" else None
        ),
    )
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on(
        "request", lambda request: hosts.add(request.url.split("/")[2]) if request.url.startswith("http") else None
    )
    opened.add_init_script(f"sessionStorage.setItem('alphareel.api_key', '{KEY}')")
    opened.goto("/")
    yield opened
    context.close()
    # A preview is deleted when its job ends, perhaps while the page asks for it.
    assert [text for text in problems if "/files/previews/" not in text] == []
    assert hosts == {service.base.split("/")[2]}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clip") / "dancer.mp4", frames=20, width=320, height=240, rate=20)


def keep(page, name):
    """Leave a screenshot where a person asked for it, to be looked at."""
    if folder := os.environ.get("ALPHAREEL_TEST_PICTURES"):
        page.screenshot(path=Path(folder) / f"studio_{name}.png")


def wait_until(page, expression):
    """Playwright's own wait evaluates text in the page, which the page's policy forbids."""
    end = time.monotonic() + SLOW / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def check_accessibility(page):
    found = axe_module.Axe().run(page).response["violations"]
    serious = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []


def remove_background(page, clip):
    """From the first page to a result that plays; returns the job's ID."""
    page.goto("/#/")
    page.set_input_files("#file", clip.path)
    page.check("input[name=model][value=human]")
    page.click("text=Remove the background >> nth=-1")
    page.wait_for_url("**/#/jobs/*")
    page.wait_for_selector(".viewer")
    wait_until(page, "document.querySelector('.stage video').readyState >= 2")
    return page.url.rpartition("/")[2]


def test_a_dropped_video_becomes_a_result_to_look_at(page, clip):
    job = remove_background(page, clip)
    check_accessibility(page)
    page.click("text=Pause")
    before = page.evaluate("document.querySelector('.stage video').currentTime")
    page.click("[aria-label='One frame forward']")
    wait_until(page, f"Math.abs(document.querySelector('.stage video').currentTime - {before}) > 0.01")
    page.click("text=Alpha only")
    page.wait_for_selector("canvas.alpha")
    page.click("[aria-label='Over black']")
    page.click("text=2:1")
    keep(page, "result")
    assert page.inner_text("pre").startswith("export ALPHAREEL_BASE_URL=")
    with page.expect_download() as download:
        page.click("text=Download webm")
    assert Path(download.value.path()).stat().st_size > 500
    page.select_option("#more", "mov")
    page.click("text=Make it")
    page.wait_for_selector("a[href*='.mov']")
    page.goto("/#/jobs")
    page.click(f"a[href='#/jobs/{job}']")
    page.wait_for_selector("text=completed")


@pytest.mark.parametrize(
    ("language", "command", "needed"),
    [
        ("curl", ["sh", "-eu", "-c"], ["curl", "jq"]),
        ("Python", [sys.executable, "-c"], []),
        ("Node", ["node", "--input-type=module", "-e"], ["node"]),
    ],
)
def test_the_sample_of_a_job_does_the_same(page, clip, service, tmp_path, language, command, needed):
    if missing := [program for program in needed if shutil.which(program) is None]:
        pytest.skip(f"{' and '.join(missing)} is not installed")
    remove_background(page, clip)
    page.click(f"role=tab[name={language}]")
    sample = page.inner_text("pre").replace("ALPHAREEL_API_KEY=...", f"ALPHAREEL_API_KEY={KEY}")
    shutil.copy(clip.path, tmp_path / "dancer.mp4")
    environment = os.environ | {"ALPHAREEL_BASE_URL": service.base, "ALPHAREEL_API_KEY": KEY}
    done = subprocess.run([*command, sample], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, timeout=200)  # noqa: PLW1510
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dancer-transparent.webm").stat().st_size > 500


def test_a_large_upload_goes_on_after_a_broken_connection(page, clip, tmp_path):
    large = tmp_path / "large film.mp4"
    padding = 20 * 2**20
    large.write_bytes(clip.path.read_bytes() + (8 + padding).to_bytes(4, "big") + b"free" + bytes(padding))
    page.add_init_script(BREAK_A_CONNECTION)
    page.reload()
    offsets = []
    page.on("request", lambda r: offsets.append(r.headers["upload-offset"]) if r.method == "PATCH" else None)
    page.set_input_files("#file", large)
    page.check("input[name=model][value=human]")
    page.click("text=Remove the background >> nth=-1")
    page.wait_for_url("**/#/jobs/*")
    assert offsets == ["0", str(5 * 2**20)]
    page.wait_for_selector("h1:has-text('large film.mp4')")


def test_the_composed_preview_is_what_the_server_renders(page, service, tmp_path):
    green = make_clip(tmp_path / "green.mp4", frames=20, width=320, height=240, rate=20, background="green")
    with Client(KEY, base_url=service.base) as client:
        job = client.create_job(client.upload(green.path)["video_url"], engine="chroma")
        client.wait_for_completion(job["id"])
    page.goto("/#/compose")
    page.click("text=As JSON")
    placed = '{"canvas": {"width": 640, "height": 480}, "foreground": {"anchor": "bottom-right", "scale": 0.6, "offset": {"x": -41, "y": -23}}}'
    page.fill("#composition", placed)
    wait_until(page, "document.querySelector('.canvas-stage video').readyState >= 2")
    page.eval_on_selector(".canvas-stage video", SEEK)
    page.wait_for_timeout(300)
    shown = np.frombuffer(page.locator(".canvas-stage").screenshot(), np.uint8)
    shown = cv2.cvtColor(cv2.imdecode(shown, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)[2:-2, 2:-2]  # type: ignore[assignment]
    check_accessibility(page)
    keep(page, "compose")
    page.click("text=Render")
    page.wait_for_url("**/#/jobs/*")
    with page.expect_download() as download:
        page.click("text=Download mp4")
    rendered = frame_of(Path(download.value.path()), 10)
    assert rendered.shape == (480, 640, 3)
    shown = cv2.resize(shown, (640, 480), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    assert np.abs(shown.astype(int) - rendered).mean() < 5
    assert np.abs(np.roll(shown, 40, axis=1).astype(int) - rendered).mean() > 5, (
        "the picture has too little in it to tell"
    )


def test_a_brushed_correction_makes_a_new_revision_that_can_be_undone(page, service, tmp_path):
    with Client(KEY, base_url=service.base) as client:
        green = make_clip(tmp_path / "green.mp4", frames=12, width=320, height=240, rate=12, background="green")
        job = client.create_job(client.upload(green.path)["video_url"], engine="chroma")
        client.wait_for_completion(job["id"])
        page.goto(f"/#/jobs/{job['id']}")
        page.click("text=Fix the matte")
        wait_until(page, "[...document.querySelectorAll('.stage video')].every(video => video.readyState >= 2)")
        page.click("text=Brush: remove")
        area = page.locator("canvas.marks").bounding_box()
        left, middle, right = area["x"], area["y"] + area["height"] * 0.8, area["x"] + area["width"]
        page.mouse.move(left + 1, middle)
        page.mouse.down()
        page.mouse.move((left + right) / 2, middle, steps=4)
        page.mouse.move(right - 1, middle, steps=4)
        page.mouse.up()
        keep(page, "fix")
        page.click("text=Correct from this frame")
        page.wait_for_selector("text=revision 2")
        check_accessibility(page)
        before, after = green.alpha(0)[192], alpha_of(client, job["id"], tmp_path / "fixed.webm")[192]
        assert before.max() == 255, "the subject is under the brush"
        assert after.max() < 16
        page.click("role=button[name=Undo]")
        page.wait_for_selector("text=revision 3")
        assert alpha_of(client, job["id"], tmp_path / "undone.webm")[192].max() > 240


def alpha_of(client, job_id, target):
    """(H, W) alpha of the first frame of a job's result."""
    with open_reader(client.download(job_id, target), Limits()) as reader:
        return next(iter(reader.frames(thumbnail=None))).alpha


def frame_of(path, index):
    """(H, W, 3) RGB of one frame of an opaque video."""
    with av.open(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return frames[index]


def test_an_operator_makes_a_key_and_reads_the_settings(page):
    page.goto("/#/operate")
    page.fill("#token", TOKEN)
    page.click("text=Continue")
    page.wait_for_selector("h1:has-text('Operate')")
    check_accessibility(page)
    page.click("role=tab[name=Keys]")
    page.fill("#client", "studio-test")
    page.click("text=Create a key")
    page.wait_for_selector("code:has-text('ar_live_')")
    check_accessibility(page)
    for tab in ("Runners", "Usage", "Credits", "Engines", "Health", "Audit log"):
        page.click(f"role=tab[name='{tab}']")
        page.wait_for_timeout(100)
        check_accessibility(page)
    page.click("role=tab[name=Settings]")
    page.wait_for_selector("text=ALPHAREEL_DATA_DIR")
    assert TOKEN not in page.content()
    assert "token" not in page.url


def test_an_operator_adds_a_runner_that_works_and_revokes_it(page, clip, service, tmp_path):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto("/#/operate")
    page.fill("#token", TOKEN)
    page.click("text=Continue")
    page.click("role=tab[name=Runners]")
    page.wait_for_selector("text=No runners.")
    page.fill("#runner-name", "gpu box")
    page.keyboard.press("Enter")
    page.wait_for_selector("h2:has-text('Run this on gpu box'):focus")
    check_accessibility(page)
    page.click("text=Copy the command")
    page.wait_for_selector("text=Copied")
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == page.inner_text("pre.wrapped")
    keep(page, "runner_added")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ALPHAREEL_")}
    environment |= {"ALPHAREEL_DATA_DIR": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    runner = subprocess.Popen(f"exec env {command}", shell=True, env=environment, stderr=subprocess.DEVNULL)
    try:
        page.wait_for_selector("text=It has joined.")
        page.wait_for_selector(".badge:has-text('idle')")
        page.click("text=Done")
        with Client(KEY, base_url=service.base) as client:
            job = client.create_job(client.upload(clip.path)["video_url"], model="human")
            client.wait_for_completion(job["id"])
        page.wait_for_selector("td.num:has-text('1') >> nth=0")
        page.wait_for_selector("text=1 of 1 connected, 0 tasks in progress.")
        check_accessibility(page)
        page.click("role=button[name='Revoke gpu box']")
        page.wait_for_selector("summary:has-text('Revoked: 1')")
        page.wait_for_selector("h2:has-text('Runners'):focus")
        assert runner.wait(timeout=100) == 6, "its token was refused"
    finally:
        runner.kill()
        runner.wait()
    page.click("summary:has-text('Revoked: 1')")
    check_accessibility(page)
    secret = command.split()[0].partition("=")[2]
    assert secret not in page.content()
    assert "gpu box" in page.content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_runners_at_work_can_be_read_on_a_phone(page, scheme):
    """The list as a server with runners gives it."""
    common = {"created_at": "2026-11-01T10:00:00.000Z", "revoked_at": None, "version": "1", "engines": ["builtin"]}
    seen = {**common, "last_seen_at": "2026-11-01T11:00:00.000Z", "slots": 2, "tasks_done": 1203, "tasks_failed": 2}
    tasks = [{"job_id": f"job_{n}c1e24f3d0b64d0f", "engine": "builtin", "progress": 41.5 * n} for n in (1, 2)]
    never = {"slots": 0, "tasks": [], "tasks_done": 0, "tasks_failed": 0, "last_seen_at": None}
    items = [
        {**seen, "id": "3f1c2b7a9d10", "name": "gpu box at home", "state": "working", "tasks": tasks},
        {**seen, "id": "77d0aa91be42", "name": "laptop of the studio", "state": "idle", "tasks": []},
        {**seen, "id": "0c9be5512f08", "name": "render node 4", "state": "away", "tasks": [], "slots": 0},
        {**common, **never, "id": "9d44bb0173ac", "name": "new machine", "state": "new"},
        {
            **seen,
            "id": "b4420c91d3ee",
            "name": "old one",
            "state": "revoked",
            "tasks": [],
            "revoked_at": seen["last_seen_at"],
        },
    ]
    page.emulate_media(color_scheme=scheme)
    page.route("**/v1/admin/runners", lambda route: route.fulfill(json={"success": True, "items": items}))
    page.add_init_script(f"sessionStorage.setItem('alphareel.admin_token', '{TOKEN}')")
    page.goto("/#/operate")
    page.reload()
    page.click("role=tab[name=Runners]")
    page.wait_for_selector("text=2 of 4 connected, 2 tasks in progress.")
    keep(page, f"runners_{scheme}")
    check_accessibility(page)
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("h2:has-text('Runners')").scroll_into_view_if_needed()
    assert page.evaluate("document.querySelector('table.stack').scrollWidth") <= 390
    keep(page, f"runners_{scheme}_phone")
    check_accessibility(page)


def test_the_guides_lead_to_each_other(page):
    page.click("nav >> text=Guides")
    page.wait_for_selector("article h1 >> text=Quickstart")
    check_accessibility(page)
    keep(page, "guides")
    page.click("nav[aria-label=Guides] >> text=Errors")
    page.wait_for_selector("article h1 >> text=Errors")
    page.goto("/#/guides/errors/codes")
    page.wait_for_selector("article h2[id='errors/codes']")
    wait_until(page, "scrollY > 0")
    page.goto("/#/guides/webhooks")
    page.click("article a[href='#/reference'] >> nth=0")
    page.wait_for_selector("h1 >> text=API reference")
    page.goto("/#/guides/nothing")
    page.wait_for_selector("text=There is no guide of this name.")


def test_the_reference_sends_real_requests(page):
    page.goto("/docs")
    page.fill("#search", "/v1/models")
    page.click("summary:has-text('/v1/models')")
    page.click("text=Send")
    page.wait_for_selector("pre:has-text('\"engines\"')")
    check_accessibility(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 800})
    for name in ("", "jobs", "compose", "operate", "guides", "reference"):
        page.goto(f"/#/{name}")
        page.reload()
        page.wait_for_selector("h1")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        check_accessibility(page)


def test_a_sign_in_link_works_once(browser, service):
    context = browser.new_context(base_url=service.base)
    page = context.new_page()
    environment = os.environ | {"ALPHAREEL_DATA_DIR": str(service.data_dir), "ALPHAREEL_PUBLIC_URL": service.base}
    command = [Path(sys.executable).with_name("alphareel"), "studio"]
    link = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()  # type: ignore[arg-type]
    assert link.startswith(f"{service.base}/#code=")
    for expected in ("Drop a video here", "was used before"):
        page.goto("about:blank")
        page.evaluate("() => {}")
        page.goto(link)
        page.wait_for_selector(f"text={expected}", timeout=SLOW)
        assert "code" not in page.url
        page.evaluate("sessionStorage.clear()")
    context.close()


def test_a_page_does_not_grow_in_an_hour_of_updates(page, service):
    """Streams of five minutes at an event a second, as fast as the page reads them, with a preview every two seconds."""
    with Client(KEY, base_url=service.base) as client:
        job = client.create_job("https://example.com/a.mp4", auto_start=False)
    running = {**job, "status": "processing", "progress": 0.0}
    streams = 0

    def answer(route):
        nonlocal streams
        if not route.request.url.endswith("/events"):
            route.fulfill(json=running)
            return
        streams += 1
        lines = []
        for second in range(300):
            lines.append(f'id: {streams}-{second}\nevent: progress\ndata: {{"progress": {second % 100}}}\n\n')
            if second % 2 == 0:
                url = f"/studio/icon.svg?{streams}-{second}"
                lines.append(f'event: preview\ndata: {{"preview_url": "{service.base}{url}"}}\n\n')
        route.fulfill(body="".join(lines), content_type="text/event-stream")

    def measure():
        tools.send("HeapProfiler.collectGarbage")
        found = {each["name"]: each["value"] for each in tools.send("Performance.getMetrics")["metrics"]}
        return found["JSHeapUsedSize"], found["Nodes"], found["JSEventListeners"]

    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable")
    page.clock.install()  # the pauses between streams take no time
    page.route(f"**/v1/jobs/{job['id']}", answer)
    page.route(f"**/v1/jobs/{job['id']}/events", answer)
    page.goto(f"/#/jobs/{job['id']}")

    def play(until):
        while streams < until:
            page.clock.run_for(1000)
            page.wait_for_timeout(20)

    play(4)  # the first ones fill caches
    before = measure()
    play(4 + 12)
    heap, nodes, listeners = (now - then for now, then in zip(measure(), before, strict=True))
    print(f"an hour: {heap / 1000:.0f} kB of heap, {nodes} nodes, {listeners} listeners")
    previews = 12 * 150  # half of the events; the page also holds the nodes of its last picture
    assert heap < 1_000_000
    assert nodes < previews / 3
    assert listeners < previews / 3


def test_the_first_page_is_small_and_soon_there(browser, service):
    context = browser.new_context(base_url=service.base)
    page = context.new_page()
    sizes = []
    page.on("requestfinished", lambda request: sizes.append(request.sizes()["responseBodySize"]))
    page.goto("/")
    page.wait_for_selector("h1", timeout=SLOW)
    assert 0 < sum(sizes) <= FIRST_PAGE_BYTES
    context.close()
