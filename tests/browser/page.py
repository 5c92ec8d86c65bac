"""A real browser with one page, driven over the DevTools protocol."""

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CODES = {"Enter": 13, "Space": 32, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40, "d": 68, "u": 85}
TEXTS = {"Enter": "\r"}
SLOW = 60  # seconds after which something hangs


@contextmanager
def headless(profile: Path) -> Iterator[str]:
    """The DevTools address of a headless browser's one empty page; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser on PATH: none of {', '.join(BROWSERS)}")
    arguments = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,860")
    quiet = ("--no-first-run", "--disable-background-networking", "--remote-debugging-port=0")
    process = subprocess.Popen(
        [program, *arguments, *quiet, f"--user-data-dir={profile}", "about:blank"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        listening = next(line for line in process.stderr if "DevTools listening on ws://" in line)
        threading.Thread(target=process.stderr.read, daemon=True).start()
        address = listening.split("ws://")[1].split("/")[0]
        with urllib.request.urlopen(f"http://{address}/json", timeout=SLOW) as reply:
            targets = json.load(reply)
        yield next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Page:
    """The page; `requested` are the addresses that it asked for, `said` what it wrote to its console."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.numbers = socket, itertools.count(1)
        self.requested: list[str] = []
        self.said: list[str] = []

    async def send(self, method: str, **parameters: Any) -> Any:
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self.socket.receive_json(timeout=SLOW)
            if message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            if message.get("method") == "Log.entryAdded":
                self.said.append(message["params"]["entry"]["text"])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    async def value(self, expression: str) -> Any:
        found = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression: str) -> None:
        for _ in range(SLOW * 20):
            if await self.value(expression):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never: {expression}; {await self.value('document.body.innerText')}")

    async def press(self, key: str, repeat: bool = False) -> None:
        code = {"key": key, "windowsVirtualKeyCode": CODES[key], "autoRepeat": repeat}
        text = {"text": TEXTS[key]} if key in TEXTS else {}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **code)

    async def click(self, selector: str) -> None:
        box = await self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send(
                "Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1
            )


def visit(browser: str, url: str, act: Callable[[Page], Awaitable[None]]) -> None:
    """Opens the address in the browser and does `act` with the page once it is loaded."""

    async def session() -> None:
        async with aiohttp.ClientSession() as client, client.ws_connect(browser, max_msg_size=0) as socket:
            page = Page(socket)
            for domain in ("Network", "Page", "Log"):
                await page.send(f"{domain}.enable")
            await page.send("Page.navigate", url=url)
            await page.until("document.readyState === 'complete' && location.href !== 'about:blank'")
            await act(page)

    asyncio.run(asyncio.wait_for(session(), 2 * SLOW))
