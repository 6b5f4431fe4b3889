"""Results as a browser shows them: transparent formats over a striped page, photographed and compared pixel by pixel."""

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles
from tests.e2e.browsers import SLOW, Chromium, Firefox, chromium_program, firefox_program

import alphareel
from alphareel.domain.clip import EngineFacts
from alphareel.http.routes import embed
from alphareel.imaging.frame import Matte
from alphareel.matting import tiers
from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for
from alphareel_client import Client

WIDTH, HEIGHT, FRAMES, RATE = 256, 192, 6, 2

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def browser(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("browser")
    kind, program = {"chromium": (Chromium, chromium_program), "firefox": (Firefox, firefox_program)}[request.param]
    opened = kind(program(), home, width=WIDTH, height=HEIGHT)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Site:
    """A folder served on this machine, byte ranges included, which seeking in a video needs."""

    folder: Path
    url: str


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    app = Starlette()
    app.mount("/", StaticFiles(directory=folder))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Site(folder, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    server.should_exit = True
    thread.join(timeout=100)


@pytest.fixture
def truth(tmp_path):
    return make_clip(tmp_path / "in.mp4", frames=FRAMES, width=WIDTH, height=HEIGHT, rate=RATE)


@pytest.fixture
def knowing(monkeypatch, truth):
    """Lets the pipeline use an engine that knows the alpha of the clip exactly."""

    def step(frames):
        return [Matte(frame, truth.alpha(frame.index)) for frame in frames]

    memory = SimpleNamespace(model_input_size=None, step=step, finish=lambda: None)
    facts = EngineFacts("known", "1", None, "Apache-2.0")
    engine = SimpleNamespace(facts=facts, start=lambda clip, options: memory)
    monkeypatch.setattr(
        tiers, "choose", lambda *_, **__: SimpleNamespace(engine=engine, warnings=(), warmup_frames=None)
    )


def stripes():
    """The page's background: vivid diagonal bands, so that wrong alpha shows in every channel."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    bands = np.array([(235, 40, 40), (250, 250, 250), (30, 60, 220), (250, 210, 0)], np.uint8)
    return bands[(rows + columns) // 12 % 4]


def write_page(site, element):
    cv2.imwrite(str(site.folder / "stripes.png"), cv2.cvtColor(stripes(), cv2.COLOR_RGB2BGR))
    style = f"margin:0;width:{WIDTH}px;height:{HEIGHT}px;background:url(stripes.png)"
    html = f'<!doctype html><title>result</title><body style="{style}">{element}'
    (site.folder / "page.html").write_text(html)
    return site.url + "/page.html"


def composite(truth, index, *, one_bit=False):
    """What a perfect browser shows of frame ``index``."""
    alpha = truth.alpha(index).astype(np.float32)[..., None] / 255
    if one_bit:
        alpha = np.float32(alpha >= 0.5)
    return truth.picture(index) * alpha + stripes() * (1 - alpha)


def errors_of(picture, truth, **options):
    """Mean error, in levels, of a photograph against each frame's perfect composite."""
    return [float(np.abs(picture - composite(truth, n, **options)).mean()) for n in range(FRAMES)]


def seek(browser, seconds):
    browser.run(f"""new Promise((done, fail) => {{
        const video = document.querySelector("video");
        setTimeout(() => fail(new Error("no frame at {seconds}")), {SLOW * 1000});
        const go = () => {{ video.requestVideoFrameCallback(() => requestAnimationFrame(() => done(true)));
                            video.currentTime = {seconds}; }};
        video.readyState >= 2 ? go() : video.addEventListener("loadeddata", go, {{once: true}});
    }})""")


def keep(picture, name):
    """Leave the photograph where a person asked for it, to be looked at."""
    if folder := os.environ.get("ALPHAREEL_TEST_PICTURES"):
        cv2.imwrite(str(Path(folder) / f"browser_{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


@pytest.mark.usefixtures("knowing")
def test_every_frame_of_a_webm_is_transparent_in_a_browser(browser, site, truth):
    alphareel.cut(truth.path, site.folder / "out.webm")
    browser.show(write_page(site, '<video src="out.webm" muted preload="auto" style="display:block"></video>'))
    for index in (4, 1, 3):
        seek(browser, (index + 0.5) / RATE)
        picture = browser.photograph()
        errors = errors_of(picture, truth)
        assert errors.index(min(errors)) == index
        assert errors[index] < 1.2
    keep(picture, f"webm_{browser.name}")


@pytest.mark.usefixtures("knowing")
@pytest.mark.parametrize(("name", "most"), [("webp", 1.5), ("gif", 2), ("apng", 1.2)])
def test_an_animation_is_transparent_and_plays_in_a_browser(browser, site, truth, name, most):
    alphareel.cut(truth.path, site.folder / f"out.{name}")
    browser.show(write_page(site, f'<img src="out.{name}" style="display:block">'))
    seen, end = {}, time.monotonic() + SLOW
    while len(seen) < 3 and time.monotonic() < end:
        picture = browser.photograph()
        errors = errors_of(picture, truth, one_bit=name == "gif")
        seen[errors.index(min(errors))] = min(errors)
        time.sleep(0.1)
    keep(picture, f"{name}_{browser.name}")
    assert len(seen) >= 3, "the animation stands still"
    assert max(seen.values()) < most


def write_embed(site, truth):
    targets = {"out.webm": {}, "out.mp4": {"output_format": "stacked_mp4"}}
    alphareel.cut(truth.path, targets={site.folder / name: own for name, own in targets.items()})
    (site.folder / "player.js").write_bytes(embed._player())
    return write_page(
        site,
        f'<video class="alphareel" muted playsinline preload="auto" width="{WIDTH}" height="{HEIGHT}" '
        'style="display:block" data-stacked="out.mp4"><source src="out.webm" type=\'video/webm; codecs="vp9"\'></video>'
        '<script src="player.js" defer></script>',
    )


def wait_for_frame(browser, truth, index, *, most=2.5):
    """A canvas is drawn a moment later than a video."""
    end, errors = time.monotonic() + SLOW, [np.inf]
    while errors.index(min(errors)) != index and time.monotonic() < end:
        time.sleep(0.1)
        picture = browser.photograph()
        errors = errors_of(picture, truth)
    assert errors.index(min(errors)) == index
    assert errors[index] < most
    return picture


OWN, APPLE = "", "Apple Computer, Inc."


def vendor_script(vendor):
    """Lets the player see another maker of the browser."""
    return f'Object.defineProperty(navigator, "vendor", {{ get: () => "{vendor}" }});' if vendor else ""


def require_webgl(browser):
    """Headless Firefox has none on a machine without a graphics card."""
    if not browser.run("!!document.createElement('canvas').getContext('webgl')"):
        pytest.skip(f"this {browser.name} has no WebGL, which the player of stacked videos needs")


@pytest.mark.usefixtures("knowing")
@pytest.mark.parametrize("vendor", [OWN, APPLE])
def test_an_embed_is_transparent_in_every_browser(browser, site, truth, vendor):
    """Safari's way is taken by its name: WebM has no alpha there, so the player puts the stacked video together."""
    page = write_embed(site, truth)
    assert len(embed._player()) <= 3000
    if vendor == APPLE:
        require_webgl(browser)
    with browser.init_script(vendor_script(vendor)):
        browser.show(page)
        assert browser.run("document.querySelectorAll('canvas').length") == (1 if vendor == APPLE else 0)
        for index in (4, 1):
            seek(browser, (index + 0.5) / RATE)
            picture = wait_for_frame(browser, truth, index)
        keep(picture, f"embed_{browser.name}_{vendor[:5]}")


@pytest.mark.usefixtures("knowing")
def test_an_embed_follows_a_seek_of_which_the_browser_tells_no_frame(browser, site, truth):
    page = write_embed(site, truth)
    require_webgl(browser)
    silent = "HTMLVideoElement.prototype.requestVideoFrameCallback = () => 0"
    with browser.init_script(vendor_script(APPLE) + silent):
        browser.show(page)
        for index in (4, 1):
            browser.run(f"document.querySelector('video').currentTime = {(index + 0.5) / RATE}")
            wait_for_frame(browser, truth, index)


@pytest.mark.parametrize(
    ("vendor", "plays", "has", "expected"),
    [
        (APPLE, "vp9 hvc1 avc1", "hevc stacked", "hevc"),
        (APPLE, "vp9 avc1", "hevc stacked", "stacked"),
        (APPLE, "hvc1 avc1", "stacked", "stacked"),
        (APPLE, "vp9 hvc1 avc1", "", "webm"),
        ("Google Inc.", "vp9 hvc1 avc1", "hevc stacked", "webm"),
        ("", "vp9 avc1", "hevc stacked", "webm"),
        ("", "hvc1 avc1", "hevc stacked", "stacked"),  # HEVC has no alpha outside of Safari
        ("", "avc1", "hevc", "webm"),
    ],
)
def test_the_player_takes_the_file_whose_alpha_the_browser_shows(browser, site, vendor, plays, has, expected):
    """Safari by its rules: what it calls itself, and what it says it can play."""
    (site.folder / "player.js").write_bytes(embed._player())
    names = {name: f"{site.url}/{name}.mp4" for name in has.split()}
    attributes = "".join(f' data-{name}="{url}"' for name, url in names.items())
    source = f'<source src="{site.url}/webm.webm" type=\'video/webm; codecs="vp9"\'>'
    element = f'<video class="alphareel" muted width="8" height="8"{attributes}>{source}</video>'
    page = write_page(site, f'{element}<script src="player.js" defer></script>')
    context = "{ createShader() {}, createProgram() {} }"
    script = f"""
        HTMLMediaElement.prototype.canPlayType = (type) => "{plays}".split(" ").some((c) => type.includes(c)) ? "maybe" : "";
        const anything = new Proxy({context}, {{ get: (all, name) => all[name] || (() => {{}}) }});
        HTMLCanvasElement.prototype.getContext = () => anything;
    """
    with browser.init_script(vendor_script(vendor) + script):
        browser.show(page)
        assert browser.run("document.querySelector('video').src") == names.get(expected, "")
        assert browser.run("document.querySelectorAll('canvas').length") == (1 if expected == "stacked" else 0)


@pytest.fixture(scope="module")
def green(tmp_path_factory):
    folder = tmp_path_factory.mktemp("green")
    return make_clip(folder / "in.mp4", frames=FRAMES, width=WIDTH, height=HEIGHT, rate=RATE, background="green")


@pytest.fixture(scope="module")
def snippet(tmp_path_factory, green):
    """The HTML that a service gives for a job. The service runs until the last test of this module."""
    key = "embed-key-" + "k" * 32
    with (
        ServiceProcess(tmp_path_factory.mktemp("service") / "data", API_KEY=key, WRITE_PER_MINUTE=600) as service,
        Client(key, base_url=service.base) as client,
    ):
        job = client.create_job(client.upload(green.path)["video_url"], engine="chroma")
        client.wait_for_completion(job["id"])
        found = wait_for(lambda: each if (each := client.embed(job["id"]))["ready"] else None)
        yield found["html"]


def close_to_a_frame(browser, truth):
    """The frame of which the browser shows a good composite; None for anything else."""
    errors = errors_of(browser.photograph(), truth)
    return errors.index(min(errors)) if min(errors) < 3 else None


def test_the_snippet_of_a_job_plays_with_transparency_on_a_page_of_another_site(browser, site, green, snippet):
    browser.show(write_page(site, snippet))
    seen, end = set(), time.monotonic() + SLOW
    while len(seen) < 3 and time.monotonic() < end:
        seen |= {close_to_a_frame(browser, green)} - {None}
        time.sleep(0.1)
    assert len(seen) >= 3, "the video stands still"
    browser.run("document.querySelector('video').pause()")
    for index in (4, 1):
        browser.run(f"document.querySelector('video').currentTime = {(index + 0.5) / RATE}")
        picture = wait_for_frame(browser, green, index, most=3)
    keep(picture, f"snippet_{browser.name}")
    assert browser.run("document.querySelectorAll('canvas').length") == 0


def test_the_snippet_of_a_job_shows_its_poster_until_it_plays(browser, site, green, snippet):
    waiting = snippet.replace(" autoplay", ' preload="none"')
    assert waiting != snippet
    assert 'poster="' in waiting
    browser.show(write_page(site, waiting))
    end = time.monotonic() + SLOW
    while (shown := close_to_a_frame(browser, green)) is None and time.monotonic() < end:
        time.sleep(0.1)
    assert shown is not None, "there is no poster"
    assert browser.run("document.querySelector('video').readyState") == 0
    keep(browser.photograph(), f"poster_{browser.name}")
