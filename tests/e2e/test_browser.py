"""Results as a browser shows them: transparent formats over a striped page, photographed and compared pixel by pixel."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
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

import alphareel
from alphareel.domain.clip import EngineFacts
from alphareel.http.routes import embed
from alphareel.imaging.frame import Matte
from alphareel.matting import tiers
from alphareel.testing.clips import make_clip

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required", "--hide-scrollbars", "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)  # fmt: skip
LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
WIDTH, HEIGHT, FRAMES, RATE = 256, 192, 6, 2
SLOW = 100  # seconds after which a browser that does not answer has failed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


class Browser:
    """Chromium driven through its debugging pipe: JSON messages that end with a zero byte, on descriptors 3 and 4."""

    def __init__(self, program: str, home: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), program, *FLAGS, f"--user-data-dir={home}"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(home)},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._answers = os.fdopen(self._in, "rb")
        self._numbers = itertools.count(1)
        self._watchdog = threading.Timer(1500, self.process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()
        self._session = None

    def open_page(self):
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)

    def ask(self, method, **parameters):
        """The answer to a command of the DevTools protocol."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _message(self):
        data = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has gone"
            data += byte
        return bytes(data)

    def run(self, script):
        """The value that a script, or the promise it makes, ends with."""
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def show(self, url):
        self.ask("Page.enable")
        self.ask("Page.navigate", url=url)
        end = time.monotonic() + SLOW
        while self.run("document.readyState + location.href") != "complete" + url:
            assert time.monotonic() < end, "the page never loaded"
            time.sleep(0.05)

    def photograph(self):
        """(H, W, 3) RGB of the page."""
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
        picture = base64.b64decode(self.ask("Page.captureScreenshot", format="png", clip=clip)["data"])
        return cv2.cvtColor(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def close(self):
        self._watchdog.cancel()
        self.process.terminate()
        self.process.wait(SLOW)
        os.close(self._out)
        self._answers.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = os.environ.get("ALPHAREEL_TEST_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(
            "no Chromium is installed (Debian: apt-get install chromium), or name one in ALPHAREEL_TEST_BROWSER"
        )
    opened = Browser(program, tmp_path_factory.mktemp("browser"))
    try:
        opened.open_page()
        yield opened
    finally:
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
    keep(picture, "webm")


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
    keep(picture, name)
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


def wait_for_frame(browser, truth, index):
    """A canvas is drawn a moment later than a video."""
    end, errors = time.monotonic() + SLOW, [np.inf]
    while errors.index(min(errors)) != index and time.monotonic() < end:
        time.sleep(0.1)
        picture = browser.photograph()
        errors = errors_of(picture, truth)
    assert errors.index(min(errors)) == index
    assert errors[index] < 2.5
    return picture


@pytest.mark.usefixtures("knowing")
@pytest.mark.parametrize("vendor", ["Google Inc.", "Apple Computer, Inc."])
def test_an_embed_is_transparent_in_every_browser(browser, site, truth, vendor):
    """Safari's way is taken by its name: WebM has no alpha there, so the player puts the stacked video together."""
    page = write_embed(site, truth)
    assert len(embed._player()) <= 3000
    script = f'Object.defineProperty(navigator, "vendor", {{ get: () => "{vendor}" }})'
    added = browser.ask("Page.addScriptToEvaluateOnNewDocument", source=script)["identifier"]
    try:
        browser.show(page)
        assert browser.run("document.querySelectorAll('canvas').length") == (1 if vendor.startswith("Apple") else 0)
        for index in (4, 1):
            seek(browser, (index + 0.5) / RATE)
            picture = wait_for_frame(browser, truth, index)
        keep(picture, f"embed_{vendor[:5]}")
    finally:
        browser.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=added)


@pytest.mark.usefixtures("knowing")
def test_an_embed_follows_a_seek_of_which_the_browser_tells_no_frame(browser, site, truth):
    page = write_embed(site, truth)
    script = (
        'Object.defineProperty(navigator, "vendor", { get: () => "Apple Computer, Inc." });'
        "HTMLVideoElement.prototype.requestVideoFrameCallback = () => 0"
    )
    added = browser.ask("Page.addScriptToEvaluateOnNewDocument", source=script)["identifier"]
    try:
        browser.show(page)
        for index in (4, 1):
            browser.run(f"document.querySelector('video').currentTime = {(index + 0.5) / RATE}")
            wait_for_frame(browser, truth, index)
    finally:
        browser.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=added)
