"""A headless Chromium, driven over its debugging protocol with nothing but a web socket."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 0.02
_FLAGS: Final = (
    # no sandbox: containers without user namespaces; the page is the test's own
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    # nothing of its own on the network
    *("--disable-background-networking", "--disable-quic", "--disable-component-update", "--disable-sync"),
    "--remote-debugging-port=0",
)
_DOMAINS: Final = ("Page", "Runtime", "Log", "Network")
_KEYS: Final = {
    " ": ("Space", 32),
    "n": ("KeyN", 78),
    "Home": ("Home", 36),
    "End": ("End", 35),
    "Tab": ("Tab", 9),
    "ArrowLeft": ("ArrowLeft", 37),
    "ArrowRight": ("ArrowRight", 39),
    "ArrowDown": ("ArrowDown", 40),
}
"""Key → its code and number."""


def find_chromium() -> str | None:
    """Path of an installed Chromium or Chrome, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Tab:
    """One page: its console, its requests, and what scripts say about it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last_id = 0
        self.events: list[dict[str, Any]] = []
        for domain in _DOMAINS:
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one protocol call; events that arrive meanwhile are kept."""
        self._last_id += 1
        self._socket.send(json.dumps({"id": self._last_id, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=_PATIENCE_S))
            if message.get("id") == self._last_id:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def open(
        self,
        address: str,
        *,
        width: int = 1200,
        height: int = 900,
        scale: float = 1.0,
        dark: bool = False,
        drawn: str = "true",
    ) -> None:
        """Load an address in a window of this size and wait until it is there.

        Args:
            scale: pixels per CSS pixel.
            drawn: an expression that is true then.
        """
        metrics = {"width": width, "height": height, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", deviceScaleFactor=scale, **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=address)
        self.wait(f"location.href !== 'about:blank' && document.readyState === 'complete' && {drawn}")

    def wait(self, expression: str) -> None:
        """Until the expression is true."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self.ask(expression):
            assert time.monotonic() < deadline, f"not within {_PATIENCE_S:.0f} s: {expression}"
            time.sleep(_PAUSE_S)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """A key on what has the focus."""
        code, number = _KEYS[key]
        about: dict[str, Any] = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, exceptions and failed loads so far."""
        found = []
        for event in self.events:
            method, params = event["method"], event["params"]
            if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
            elif method in ("Runtime.exceptionThrown", "Network.loadingFailed") or (
                method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning")
            ):
                found.append(json.dumps(params)[:1500])
        return found

    def requests(self) -> list[str]:
        """Every address that the page asked for, but those of data inside it."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in sent]
        return [url for url in urls if not url.startswith("data:")]

    def screenshot(self) -> bytes:
        """The visible part as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@dataclass(frozen=True)
class Browser:
    """A running browser."""

    port: int

    @contextmanager
    def tab(self) -> Iterator[Tab]:
        """A tab of its own; it closes with the block."""
        about = self._ask("new?about:blank", method="PUT")
        try:
            with connect(about["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
                yield Tab(socket)
        finally:
            self._ask(f"close/{about['id']}")

    def _ask(self, what: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/{what}", method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_PATIENCE_S) as answer:
            body = answer.read()
        return json.loads(body) if body.startswith(b"{") else None


@contextmanager
def chromium(binary: str, profile: Path) -> Iterator[Browser]:
    """A fresh headless browser, which ends with the block."""
    browser = subprocess.Popen(
        [binary, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Browser(_port(browser, profile / "DevToolsActivePort"))
    finally:
        browser.terminate()
        browser.wait(timeout=30)


def _port(browser: subprocess.Popen[bytes], file: Path) -> int:
    deadline = time.monotonic() + _PATIENCE_S
    while not (file.exists() and file.read_text().count("\n")):
        assert browser.poll() is None, "Chromium ended before it listened"
        assert time.monotonic() < deadline, f"Chromium did not listen within {_PATIENCE_S:.0f} s"
        time.sleep(_PAUSE_S)
    return int(file.read_text().splitlines()[0])
