"""A headless Chromium driven over its debugging port, so that tests can look at a report as a reader does."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1800",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)


class Browser:
    """One Chromium with one page; network off. What the page asked for and complained about is kept."""

    def __init__(self, chromium: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.home = tempfile.mkdtemp(prefix="chromium-")
        self.process = subprocess.Popen(
            [chromium, *FLAGS, f"--user-data-dir={self.home}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.count = 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.socket: Any = None
        self.loop.run_until_complete(self._connect())

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.call("Browser.close")
        except Exception:
            self.process.kill()
        self.socket.close()
        self.process.wait(timeout=20)
        self.loop.run_until_complete(asyncio.sleep(0.05))
        self.loop.close()
        shutil.rmtree(self.home, ignore_errors=True)

    async def _connect(self) -> None:
        from tornado.httpclient import AsyncHTTPClient
        from tornado.websocket import websocket_connect

        port_file, end = Path(self.home) / "DevToolsActivePort", time.time() + 30
        while not (port_file.exists() and port_file.read_text().count("\n")):
            if time.time() > end:
                raise TimeoutError("Chromium did not open its debugging port.")
            await asyncio.sleep(0.05)
        port = port_file.read_text().split("\n")[0]
        client = AsyncHTTPClient()
        pages = json.loads((await client.fetch(f"http://127.0.0.1:{port}/json/list")).body)
        client.close()
        page = next(p for p in pages if p["type"] == "page")
        self.socket = await websocket_connect(page["webSocketDebuggerUrl"], max_message_size=2**28)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._call(f"{domain}.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        await self._call("Network.emulateNetworkConditions", offline)

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.count += 1
        number = self.count
        await self.socket.write_message(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            text = await asyncio.wait_for(self.socket.read_message(), 30)
            if text is None:
                return {}
            message = json.loads(text)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        """Keep requests, and everything said that is an error or a warning."""
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"][:200])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:600])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"])[:600])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            text = params["entry"]["text"]
            if "getImageData" not in text:  # a hint on speed, for older versions of Bokeh
                self.complaints.append(text[:600])
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {params['message']}")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command."""
        return self.loop.run_until_complete(self._call(method, params))

    def js(self, expression: str) -> Any:
        """Evaluate an expression (awaiting it) and return its value."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:800])
        return result["result"].get("value")

    def open(self, path: Path, fragment: str = "") -> None:
        """Open a report, and wait until it is drawn."""
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=path.resolve().as_uri() + fragment)
        self.wait("document.body && document.body.dataset.shown !== undefined")
        self.wait("window.Bokeh && Bokeh.documents.every((d) => d.is_idle)")

    def wait(self, condition: str, seconds: float = 20.0) -> None:
        """Wait until a JavaScript condition holds."""
        end = time.time() + seconds
        while not self.js(f"Boolean({condition})"):
            if time.time() > end:
                raise TimeoutError(f"{condition}: {self.complaints}")
            time.sleep(0.05)

    def choose(self, select: str, value: str) -> None:
        """Choose an option as a reader does: the change event fires."""
        self.js(
            f"(() => {{ const s = document.getElementById({select!r}); s.value = {value!r};"
            " s.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def move(self, x: float, y: float) -> None:
        """Move the mouse over a point of the page."""
        for dx in (-3.0, 0.0):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + dx, y=y)

    def click(self, x: float, y: float) -> None:
        """Click on a point of the page."""
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        """Write the window as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
