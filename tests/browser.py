"""A headless Chromium for tests, driven by its DevTools protocol over a websocket.

Clicks and keys are real input events at the place where an element is, so that what lies under
something else, or out of reach of a keyboard, can't be used by a test either.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SECONDS = 60.0
"""Longest wait for one answer; the machine may be busy."""

_KEYS = {
    "Enter": ("Enter", 13, "\r"),
    "Space": (" ", 32, " "),
    "Tab": ("Tab", 9, ""),
    "Escape": ("Escape", 27, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "Home": ("Home", 36, ""),
    "End": ("End", 35, ""),
    "Backspace": ("Backspace", 8, ""),
    "/": ("/", 191, "/"),
}
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio"),
    *("--disable-dev-shm-usage", "--disable-extensions", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars=false"),
    *("--no-proxy-server", "--remote-debugging-port=0"),
)


class Page:
    """One tab.

    Attributes:
        errors: what the console calls an error, and exceptions, since the page was opened.
        requests: URLs that the page asked for, except its own and `data:`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: Any) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._loop, self._socket = loop, socket
        self._numbers = itertools.count(1)
        self._session = ""
        self._loaded = False
        self._url, self._width = "", 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return what the browser answers to a command of its protocol."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, params), SECONDS))

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        while True:
            said = await self._hear()
            if said.get("id") == number:
                assert "error" not in said, (method, said["error"])
                return said["result"]

    async def _hear(self) -> dict[str, Any]:
        said = json.loads(await self._socket.receive_str())
        method, params = said.get("method"), said.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(json.dumps(params["args"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith("data:") and url.partition("#")[0] != self._url:
                self.requests.append(url)
        return said

    def open(self, url: str | Path, *, width: int = 1280, height: int = 900) -> None:
        """Open a page, or a file, in a window of this size in pixels, and wait until it is there.

        Below 600 pixels the window is that of a phone.
        """
        self._url = Path(url).resolve().as_uri() if isinstance(url, Path) else url
        self.resize(width, height)
        self.errors, self.requests, self._loaded = [], [], False
        answer = self.call("Page.navigate", url=self._url)
        assert "errorText" not in answer, answer
        end = time.monotonic() + SECONDS
        while not self._loaded:
            assert time.monotonic() < end, f"{self._url} is not loaded"
            self._loop.run_until_complete(asyncio.wait_for(self._hear(), SECONDS))

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        self._width = width
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of the first element that matches."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def _middle(self, selector: str) -> list[float]:
        return self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect();"
            "return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )

    def touch(self, on: bool) -> None:
        """Have the window touched by fingers, or by a mouse again."""
        self.call("Emulation.setTouchEmulationEnabled", enabled=on)

    def tap(self, selector: str) -> None:
        """Touch the middle of the first element that matches."""
        x, y = self._middle(selector)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key: Enter, Space, Tab, Escape, an arrow or another of `_KEYS`."""
        name, code, text = _KEYS[key]
        about = {"key": name, "code": key, "windowsVirtualKeyCode": code}
        about |= {"modifiers": 8} if shift else {}
        down = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text: str) -> None:
        """Put text where the keyboard is, as one key or the clipboard would."""
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, *paths: Path) -> None:
        """Choose files in the file field that matches first."""
        root = self.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def wait(self, script: str, seconds: float = SECONDS) -> None:
        """Return once a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)

    def prefer(self, **features: str) -> None:
        """Say what the person prefers: `prefers_color_scheme="dark"`; nothing for no wishes."""
        wishes = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.call("Emulation.setEmulatedMedia", features=wishes)

    def focus(self, selector: str) -> None:
        """Give the keyboard to the first element that matches, and make sure that it has it."""
        quoted = json.dumps(selector)
        self.run(f"document.querySelector({quoted}).focus()")
        assert self.run(f"document.activeElement === document.querySelector({quoted})"), selector

    def scripting(self, on: bool) -> None:
        """Switch the scripts of pages opened from now on off, or on again; `run` still works."""
        self.call("Emulation.setScriptExecutionDisabled", value=not on)

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window.

        `window.innerWidth` would not tell: phones zoom out until all of a page is seen.
        """
        return self.run("document.documentElement.scrollWidth") - self._width

    def screenshot(self, path: Path, *, full: bool = True, most: int = 12_000) -> Path:
        """Write a PNG of the page, all of it or what the window shows; `most` pixels high."""
        clip = {}
        if full:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            height = min(size["height"], most)
            clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1}}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=full, **clip)
        path.write_bytes(base64.b64decode(found["data"]))
        return path


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """Yield a tab of a headless Chromium that keeps its files in `folder`; skip without one."""
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp speaks to the browser")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium here")
    own = folder / "chromium"
    command = [program, *_OPTIONS, f"--user-data-dir={own}", "about:blank"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet, start_new_session=True)
    loop = asyncio.new_event_loop()
    session = socket = None
    try:
        where = _where(own / "DevToolsActivePort", process)
        session = loop.run_until_complete(_opened(aiohttp))
        socket = loop.run_until_complete(session.ws_connect(where, max_msg_size=0))
        yield Page(loop, socket)
    finally:
        for closing in (socket, session):
            if closing is not None:
                loop.run_until_complete(closing.close())
        loop.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(own, ignore_errors=True)


async def _opened(aiohttp: Any) -> Any:
    return aiohttp.ClientSession()


def _where(port: Path, process: subprocess.Popen) -> str:
    """Return the address of the protocol, which the browser writes into a file."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, "Chromium ended before it could be asked"
        with contextlib.suppress(OSError, ValueError):
            number, path = port.read_text().split()
            return f"ws://127.0.0.1:{number}{path}"
        time.sleep(0.05)
    raise AssertionError("Chromium does not say where it listens")
