"""Chromium without a window, driven by its own protocol: real widths, colour schemes and keys. Marker `browser`."""

import asyncio
import base64
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
LONGEST_S = 60
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "Tab": 9, "Enter": 13}
"""Name -> virtual key code."""


class Chromium:
    """A page of its own browser.

    Args:
        profile: an empty folder.
    """

    def __init__(self, profile: Path) -> None:
        executable = next(filter(None, map(shutil.which, NAMES)), None)
        if executable is None:
            pytest.skip("no Chromium: apt-get install chromium")
        aiohttp = pytest.importorskip("aiohttp")
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--hide-scrollbars"]
        self._process = subprocess.Popen(
            [executable, *flags, f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        address = next(
            found[1] for line in self._process.stderr if (found := re.search(r"listening on (ws://\S+)", line))
        )
        self._runner, self._number, self.requested = asyncio.Runner(), 0, list[str]()
        self._session = self._run(self._connect(aiohttp, address))

    async def _connect(self, aiohttp: Any, address: str) -> str:
        self._client = aiohttp.ClientSession()
        self._socket = await self._client.ws_connect(address, max_msg_size=0)
        self._session = ""
        target = (await self._ask("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self._ask("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        self._session = session
        for domain in ("Page", "Network", "Runtime"):
            await self._ask(f"{domain}.enable")
        return session

    def _run(self, work: Any) -> Any:
        async def in_time() -> Any:
            return await asyncio.wait_for(work, LONGEST_S)

        return self._runner.run(in_time())

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": self._number, "method": method, "params": params, **session})
        while True:
            message = await self._next()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    async def _next(self) -> dict[str, Any]:
        message = await self._socket.receive_json()
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(message["params"]["request"]["url"])
        return message

    def open(self, path: Path, width: int, dark: bool = False) -> None:
        """Shows a file in a window of a width."""

        async def work() -> None:
            scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            await self._ask("Emulation.setEmulatedMedia", features=scheme)
            size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
            await self._ask("Emulation.setDeviceMetricsOverride", **size)
            await self._ask("Page.navigate", url=path.as_uri())
            while (await self._next()).get("method") != "Page.loadEventFired":
                pass

        self._run(work())

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self._run(self._ask("Runtime.evaluate", expression=expression, returnByValue=True))
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            code = KEYS[key]
            self._run(self._ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code))

    def picture(self, path: Path) -> None:
        """Writes the whole page as a PNG file."""
        found = self._run(self._ask("Page.captureScreenshot", captureBeyondViewport=True))
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        async def work() -> None:
            await self._client.close()

        try:
            self._run(work())
            self._runner.close()
        finally:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
