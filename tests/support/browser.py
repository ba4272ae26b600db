"""Headless Chromium, spoken to by its own DevTools protocol over a WebSocket: no driver and no library in between.

What the page complains of (errors, what its Content-Security-Policy forbade) is in `complaints`.
"""

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from websockets.asyncio.client import ClientConnection, connect

from tests.support import PATIENCE_S

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-extensions", "--remote-debugging-port=0", "about:blank",
)  # fmt: skip


class Browser:
    """One page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._session = socket, ""
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.complaints: list[str] = []

    async def call(self, method: str, **params: Any) -> Any:
        """A command of the protocol. Raises RuntimeError where the browser says no."""
        number = next(self._ids)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        told = {"id": number, "method": method, "params": params}
        await self._socket.send(json.dumps(told | ({"sessionId": self._session} if self._session else {})))
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await answer
        finally:
            del self._answers[number]

    async def begin(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            await self.call(f"{domain}.enable")

    async def hear(self) -> None:
        async for frame in self._socket:
            told = json.loads(frame)
            if (answer := self._answers.get(told.get("id", 0))) is not None and not answer.done():
                if "error" in told:
                    answer.set_exception(RuntimeError(told["error"]["message"]))
                else:
                    answer.set_result(told["result"])
            elif told.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["params"]["exceptionDetails"])[:500])
            elif told.get("method") == "Log.entryAdded":
                entry = told["params"]["entry"]
                self.complaints.append(f"{entry['level']}: {entry['text']}")

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def ask(self, expression: str) -> Any:
        """The value of an expression, of a promise what it comes to. Raises RuntimeError where it throws."""
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:800])
        return found["result"].get("value")

    async def until(self, expression: str, timeout: float = PATIENCE_S) -> Any:
        """Waits until it is true; its value. Raises AssertionError with what the page shows instead."""
        try:
            async with asyncio.timeout(timeout):
                while not (value := await self._ask_calmly(expression)):
                    await asyncio.sleep(0.05)
                return value
        except TimeoutError:
            shown = await self.ask("document.body.innerText")
            raise AssertionError(f"not within {timeout} s: {expression}\n{shown}") from None

    async def _ask_calmly(self, expression: str) -> Any:
        """While a page gives way to another, it cannot be asked."""
        try:
            return await self.ask(expression)
        except RuntimeError:
            return None

    async def key(self, key: str, text: str = "") -> None:
        """Presses and releases it."""
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def write(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def look(self, *, width: int, height: int, scheme: Literal["light", "dark"] = "light") -> None:
        """The window, and what its user likes."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def picture(self, file: Path) -> None:
        """What the window shows, as PNG."""
        shot = await self.call("Page.captureScreenshot")
        file.write_bytes(base64.b64decode(shot["data"]))

    async def spoken(self) -> list[tuple[str, str]]:
        """What a screen reader finds: (role, name), in order."""
        tree = await self.call("Accessibility.getFullAXTree")
        return [
            (one["role"]["value"], str(one.get("name", {}).get("value", "")))
            for one in tree["nodes"]
            if not one.get("ignored")
        ]


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Browser]:
    """Raises RuntimeError where there is no Chromium."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        raise RuntimeError("there is no Chromium: apt-get install chromium")
    profile = folder / "profile"
    child = await asyncio.create_subprocess_exec(
        program, f"--user-data-dir={profile}", *_FLAGS,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (lines := _read(profile / "DevToolsActivePort")):
                await asyncio.sleep(0.05)
        async with connect(f"ws://127.0.0.1:{lines[0]}{lines[1]}", max_size=None, proxy=None) as socket:
            made = Browser(socket)
            hearing = asyncio.create_task(made.hear())
            try:
                await made.begin()
                yield made
            finally:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)
    finally:
        child.terminate()
        await child.wait()


def _read(file: Path) -> list[str]:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return []
    return lines if len(lines) == 2 else []
