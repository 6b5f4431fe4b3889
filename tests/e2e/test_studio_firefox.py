"""The studio in Firefox, over a real service: from a dropped video to a result whose transparency shows."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.e2e.browsers import Firefox, firefox_program

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess

KEY = "studio-key-" + "k" * 32
SETTINGS = {"API_KEY": KEY, "WRITE_PER_MINUTE": 600, "TIERS": "human=chroma"}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Firefox(firefox_program(), tmp_path_factory.mktemp("browser"), width=1200, height=900)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory, browser):
    with ServiceProcess(tmp_path_factory.mktemp("studio") / "data", **SETTINGS) as running:
        yield running


@pytest.fixture
def studio(browser, service):
    """The signed-in first page. At its end no script may have failed."""
    browser.problems.clear()
    sign_in = f"if (location.protocol === 'http:') sessionStorage.setItem('alphareel.api_key', '{KEY}')"
    with browser.init_script(sign_in):
        browser.show(service.base + "/#/")
        browser.wait_until("document.querySelector('#file') !== null")
        yield browser
    # A preview is deleted when its job ends, perhaps while the page asks for it.
    assert [text for text in browser.problems if "/files/previews/" not in text] == []


def click(browser, text):
    """Click the last button or link with this text."""
    found = f"[...document.querySelectorAll('button, a')].filter(each => each.innerText.trim() === {json.dumps(text)})"
    browser.wait_until(f"{found}.length > 0")
    browser.run(f"{found}.at(-1).click()")


def picture_of(browser, selector):
    """(H, W, 3) RGB of an element as the page shows it."""
    browser.run(f"document.querySelector('{selector}').scrollIntoView({{block: 'center'}})")
    box = json.loads(browser.run(f"JSON.stringify(document.querySelector('{selector}').getBoundingClientRect())"))
    left, top, right, bottom = (round(box[side]) for side in ("left", "top", "right", "bottom"))
    return browser.photograph()[top:bottom, left:right]


def keep(picture, name):
    """Leave the photograph where a person asked for it, to be looked at."""
    if folder := os.environ.get("ALPHAREEL_TEST_PICTURES"):
        cv2.imwrite(str(Path(folder) / f"firefox_{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def test_a_dropped_video_becomes_a_transparent_result(studio, tmp_path):
    clip = make_clip(tmp_path / "dancer.mp4", frames=20, width=320, height=240, rate=20, background="green")
    studio.set_files("#file", clip.path)
    studio.run("document.querySelector('input[name=model][value=human]').click()")
    click(studio, "Remove the background")
    studio.wait_until("document.querySelector('.stage video:not(.original)')?.readyState >= 2")
    click(studio, "Pause")
    before = studio.run("document.querySelector('.stage video').currentTime")
    studio.run("document.querySelector('[aria-label=\"One frame forward\"]').click()")
    studio.wait_until(f"Math.abs(document.querySelector('.stage video').currentTime - {before}) > 0.01")
    studio.wait_until("document.querySelector('.stage video').seeking === false")
    index = int(studio.run("document.querySelector('.stage video').currentTime") * 20 + 0.01)

    slider = "document.querySelector('.slider')"  # the result alone
    studio.run(f"{slider}.value = 0; {slider}.dispatchEvent(new Event('input', {{bubbles: true}})); null")
    studio.run("document.querySelector('[aria-label=\"Over white\"]').click()")
    click(studio, "Alpha only")
    studio.wait_until("document.querySelector('canvas.alpha') !== null")
    alpha = wait_for_picture(studio, lambda shown: difference(shown, clip.alpha(index)) < 8)
    keep(alpha, "alpha")
    click(studio, "Alpha only")
    shown = wait_for_picture(studio, lambda shown: corner(shown).min() > 250)
    keep(shown, "over_white")
    keep(studio.photograph(), "page")
    height, width = shown.shape[:2]
    assert shown[height * 3 // 4, width // 2].mean() < 200, "the subject is gone"
    studio.run("document.querySelector('[aria-label=\"Over black\"]').click()")
    wait_for_picture(studio, lambda shown: corner(shown).max() < 5)

    click(studio, "Get the HTML")
    studio.wait_until("document.querySelector('pre[aria-label=HTML]')?.innerText.includes('<video') === true")


def wait_for_picture(browser, is_right):
    """What the stage shows, once it is right."""
    found = {}

    def look():
        found["picture"] = picture_of(browser, ".stage .frame")
        return is_right(found["picture"])

    browser.wait_for(look)
    return found["picture"]


def corner(shown):
    """A part of the stage that the subject never reaches, beside all labels."""
    return shown[60:110, -70:-10]


def difference(shown, alpha):
    """Mean difference in levels."""
    small = cv2.resize(shown, (alpha.shape[1], alpha.shape[0]), interpolation=cv2.INTER_AREA)
    return float(np.abs(small.mean(axis=2) - alpha).mean())


@pytest.mark.parametrize("page", ["jobs", "compose", "operate", "guides", "reference"])
def test_every_page_of_the_studio_opens(studio, page):
    studio.run(f"location.hash = '#/{page}'; null")
    studio.wait_until(f"location.hash === '#/{page}' && document.querySelector('h1') !== null")
    studio.wait_until("document.querySelector('main').innerText.length > 20")
