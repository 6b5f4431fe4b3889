"""Browsers that tests drive: Chromium by its DevTools protocol, Firefox by WebDriver BiDi. Neither needs a driver."""

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import aiohttp
import cv2
import numpy as np
import pytest

SLOW = 100  # seconds after which a browser that does not answer has failed
_LIFETIME = 1500  # seconds after which a browser is killed, whatever its test does

_CHROMIUM_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_CHROMIUM_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required", "--hide-scrollbars", "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)  # fmt: skip
_LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""

_FIREFOX_PROGRAMS = ("firefox", "firefox-esr")
_FIREFOX_PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.startup.page": 0,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.healthreport.uploadEnabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "media.autoplay.blocking_policy": 0,
    "media.autoplay.default": 0,
    "media.gmp-manager.updateEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
    "webgl.force-enabled": True,
}


def chromium_program():
    """Skips where there is none."""
    return _find(_CHROMIUM_PROGRAMS, "Chromium", "ALPHAREEL_TEST_BROWSER", "chromium")


def firefox_program():
    """Skips where there is none."""
    return _find(_FIREFOX_PROGRAMS, "Firefox", "ALPHAREEL_TEST_FIREFOX", "firefox-esr")


def _find(names, title, variable, package):
    program = os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no {title} is installed (Debian: apt-get install {package}), or name one in {variable}")
    return program


def _decode(picture):
    """(H, W, 3) RGB of a PNG in base64."""
    data = np.frombuffer(base64.b64decode(picture), np.uint8)
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


class Browser(ABC):
    """One page of a browser."""

    name = ""

    @abstractmethod
    def run(self, script):
        """The value that a script, or the promise it makes, ends with: text, a number, a boolean or nothing."""

    @abstractmethod
    def photograph(self):
        """(H, W, 3) RGB of the page."""

    @abstractmethod
    def init_script(self, script):
        """A context manager, in which each page runs the script before its own."""

    @abstractmethod
    def close(self): ...

    @abstractmethod
    def _navigate(self, url): ...

    def show(self, url):
        self._navigate(url)
        end = time.monotonic() + SLOW
        while self.run("document.readyState + location.href") != "complete" + url:
            assert time.monotonic() < end, "the page never loaded"
            time.sleep(0.05)

    def wait_until(self, expression):
        """Wait until the expression is true in the page."""
        self.wait_for(lambda: self.run(expression), expression)

    def wait_for(self, condition, description="it"):
        end = time.monotonic() + SLOW
        while not condition():
            assert time.monotonic() < end, f"{description} never came true"
            time.sleep(0.05)

    def _watch(self, process):
        self.process = process
        self._watchdog = threading.Timer(_LIFETIME, self._kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    def _kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Chromium(Browser):
    """Driven through its debugging pipe: JSON messages that end with a zero byte, on descriptors 3 and 4."""

    name = "chromium"

    def __init__(self, program, home, *, width, height):
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        launcher = [sys.executable, "-c", _LAUNCH, str(theirs_in), str(theirs_out)]
        self._watch(
            subprocess.Popen(
                [*launcher, program, *_CHROMIUM_FLAGS, f"--user-data-dir={home}"],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "HOME": str(home)},
                start_new_session=True,
            )
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._answers = os.fdopen(self._in, "rb")
        self._numbers = itertools.count(1)
        self._session = None
        self._size = {"width": width, "height": height}
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Emulation.setDeviceMetricsOverride", **self._size, deviceScaleFactor=1, mobile=False)

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
        answer = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _navigate(self, url):
        self.ask("Page.enable")
        self.ask("Page.navigate", url=url)

    @contextmanager
    def init_script(self, script):
        added = self.ask("Page.addScriptToEvaluateOnNewDocument", source=script)["identifier"]
        try:
            yield
        finally:
            self.ask("Page.removeScriptToEvaluateOnNewDocument", identifier=added)

    def photograph(self):
        clip = {"x": 0, "y": 0, **self._size, "scale": 1}
        return _decode(self.ask("Page.captureScreenshot", format="png", clip=clip)["data"])

    def close(self):
        self._watchdog.cancel()
        self.process.terminate()
        self.process.wait(SLOW)
        self._kill()
        os.close(self._out)
        self._answers.close()


class Firefox(Browser):
    """Driven by WebDriver BiDi, over a WebSocket that Firefox opens itself. ``problems``: errors in its console."""

    name = "firefox"

    def __init__(self, program, home, *, width, height):
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in _FIREFOX_PREFERENCES.items())
        (home / "user.js").write_text("\n".join(lines))
        self._watch(
            subprocess.Popen(
                [program, "--headless", "--no-remote", "--profile", home, "--remote-debugging-port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "HOME": str(home), "MOZ_CRASHREPORTER_DISABLE": "1"},
                start_new_session=True,
            )
        )
        self.problems = []
        try:
            self._connect(home, {"width": width, "height": height})
        except BaseException:
            self._kill()
            raise

    def _connect(self, home, size):
        self._socket = _Socket(_address(home / "WebDriverBiDiServer.json", self.process), self._notice)
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded"])
        self._context = self.ask("browsingContext.getTree")["contexts"][0]["context"]
        self.ask("browsingContext.setViewport", context=self._context, viewport=size, devicePixelRatio=1)

    def ask(self, method, **parameters):
        """The answer to a command of WebDriver BiDi."""
        answer = self._socket.ask(method, parameters)
        assert answer["type"] == "success", answer
        return answer["result"]

    def _notice(self, event):
        entry = event["params"]
        if event["method"] == "log.entryAdded" and entry["level"] == "error":
            frames = (entry.get("stackTrace") or {}).get("callFrames", ())
            places = (f"{frame['url']}:{frame['lineNumber']}" for frame in frames[:1])
            self.problems.append(" ".join((entry["text"], *places)))

    def run(self, script):
        target = {"context": self._context}
        answer = self.ask("script.evaluate", expression=script, target=target, awaitPromise=True)
        assert answer["type"] == "success", answer
        return answer["result"].get("value")

    def set_files(self, selector, *paths):
        """Choose files in the input that the selector finds."""
        target = {"context": self._context}
        found = self.ask(
            "script.evaluate", expression=f"document.querySelector({json.dumps(selector)})", target=target,
            awaitPromise=False,
        )  # fmt: skip
        element = {"sharedId": found["result"]["sharedId"]}
        self.ask("input.setFiles", context=self._context, element=element, files=[str(path) for path in paths])

    def _navigate(self, url):
        self.ask("browsingContext.navigate", context=self._context, url=url, wait="none")

    @contextmanager
    def init_script(self, script):
        added = self.ask("script.addPreloadScript", functionDeclaration=f"() => {{ {script} }}")["script"]
        try:
            yield
        finally:
            self.ask("script.removePreloadScript", script=added)

    def photograph(self):
        return _decode(self.ask("browsingContext.captureScreenshot", context=self._context)["data"])

    def close(self):
        self._watchdog.cancel()
        with suppress(AssertionError):
            self.ask("browser.close")
        self._socket.close()
        self.process.wait(SLOW)
        self._kill()


def _address(file, process):
    """The address of the WebSocket that Firefox writes into a file of its profile."""
    end = time.monotonic() + SLOW
    while True:
        assert process.poll() is None, "Firefox ended"
        assert time.monotonic() < end, "Firefox opened no port"
        with suppress(FileNotFoundError, ValueError):
            found = json.loads(file.read_text())
            return f"ws://{found['ws_host']}:{found['ws_port']}/session"
        time.sleep(0.05)


class _Socket:
    """Commands and their answers over a WebSocket, whose event loop has a thread of its own."""

    def __init__(self, address, on_event):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._on_event = on_event
        self._pending = {}
        self._numbers = itertools.count(1)
        self._open = SimpleNamespace()
        self._wait(self._connect(address))

    def _wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SLOW)

    async def _connect(self, address):
        self._open.session = aiohttp.ClientSession()
        self._open.socket = await self._open.session.ws_connect(address, max_msg_size=0)
        self._open.reader = asyncio.create_task(self._read())

    async def _read(self):
        async for message in self._open.socket:
            values = json.loads(message.data)
            if values["type"] == "event":
                self._on_event(values)
            elif (waiting := self._pending.pop(values["id"], None)) is not None:
                waiting.set_result(values)
        for waiting in self._pending.values():
            waiting.set_exception(AssertionError("the browser has gone"))

    def ask(self, method, parameters):
        number, answer = next(self._numbers), Future()
        self._pending[number] = answer
        self._wait(self._open.socket.send_json({"id": number, "method": method, "params": parameters}))
        return answer.result(SLOW)

    def close(self):
        self._wait(self._disconnect())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SLOW)
        self._loop.close()

    async def _disconnect(self):
        await self._open.socket.close()
        await self._open.reader
        await self._open.session.close()
