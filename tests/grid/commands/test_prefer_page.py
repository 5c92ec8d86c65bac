"""The preference page in a real browser: keys and clicks become votes in the database."""

import asyncio
import base64
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image

from grid.commands.prefer_server import serve
from grid.commands.preference import Study
from tests.grid.preference_study import EXPERIMENT, N_IMAGES, SLOW, study_of

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CODES = {"ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40, "d": 68, "u": 85}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[str]:
    """The DevTools address of a headless browser's one empty page."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser on PATH: none of {', '.join(BROWSERS)}")
    arguments = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,860")
    quiet = ("--no-first-run", "--disable-background-networking", "--remote-debugging-port=0")
    process = subprocess.Popen(
        [program, *arguments, *quiet, f"--user-data-dir={tmp_path / 'profile'}", "about:blank"],
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
    """One page of the browser, over the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket, self.numbers, self.requested = socket, itertools.count(1), []

    async def send(self, method: str, **parameters: Any) -> Any:
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self.socket.receive_json(timeout=SLOW)
            if message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
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

    async def shows(self, done: int) -> None:
        """So many votes are confirmed, and the next can be given."""
        await self.until(f"document.getElementById('count').textContent === '{done} of {N_IMAGES}' && !busy")

    async def press(self, key: str, repeat: bool = False) -> None:
        code = {"key": key, "windowsVirtualKeyCode": CODES[key], "autoRepeat": repeat}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **code)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **code)

    async def click(self, element: str) -> None:
        box = await self.value(
            f"(() => {{ const r = document.getElementById('{element}').getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send(
                "Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1
            )

    async def red_half(self, side: str) -> str:
        """In which half of the picture on this side the evidence is: whose explanation it is."""
        uri = await self.value(f"document.querySelector('#{side} img').src")
        picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        red = (pixels[..., 0] - pixels[..., 2]).mean(axis=0)
        middle = len(red) // 2
        return "left-heavy" if red[:middle].mean() > red[middle:].mean() else "right-heavy"


def visit(browser: str, study: Study, act: Callable[[Page, Any], Awaitable[None]]) -> None:
    """Opens the study's page in the browser and does `act` with the page and the server."""
    server = serve(study, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()

    async def session() -> None:
        async with aiohttp.ClientSession() as client, client.ws_connect(browser, max_msg_size=0) as socket:
            page = Page(socket)
            await page.send("Network.enable")
            await page.send("Page.enable")
            await page.send("Page.navigate", url=f"http://127.0.0.1:{server.server_port}/")
            await page.until("document.readyState === 'complete' && typeof busy !== 'undefined'")
            await act(page, server)

    try:
        asyncio.run(asyncio.wait_for(session(), 2 * SLOW))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def votes(study: Study) -> list[dict[str, Any]]:
    return study.results.preferences(EXPERIMENT, ("left-heavy", "right-heavy"), "ada")


@pytest.mark.slow
def test_keys_and_clicks_are_the_votes_of_what_was_shown(browser: str, tmp_path: Path) -> None:
    study, shown = study_of(tmp_path), []

    async def act(page: Page, server: Any) -> None:
        await page.shows(0)
        for done, way in enumerate(("ArrowLeft", "ArrowRight", "ArrowDown", "d"), start=1):
            shown.append((await page.red_half("left"), await page.red_half("right")))
            await page.press(way)
            await page.shows(done)
        await page.press("ArrowLeft", repeat=True)  # a key that is held down
        for done, way in enumerate(("left", "right", "tie"), start=5):
            shown.append((await page.red_half("left"), await page.red_half("right")))
            await page.click(way)
            await page.shows(done)
        await page.press("u")
        await page.shows(6)
        await page.click("undo")
        await page.shows(5)
        if folder := os.environ.get("SCREENSHOT"):
            taken = await page.send("Page.captureScreenshot")
            Path(folder).write_bytes(base64.b64decode(taken["data"]))
        for done in (6, 7, 8):
            await page.press("ArrowLeft")
            await page.shows(done)
        assert await page.value("document.getElementById('pair').hidden")
        assert "Thank you" in await page.value("document.body.innerText")
        await page.press("ArrowLeft")  # there is nothing left to vote on
        own = f"http://127.0.0.1:{server.server_port}/"
        assert [url for url in page.requested if not url.startswith((own, "data:"))] == []

    visit(browser, study, act)
    stored = votes(study)
    choices = ["left", "right", "tie", "tie", "left", "left", "left", "left"]
    assert [vote["choice"] for vote in stored] == choices
    sides = [(vote["left_trial"], vote["right_trial"]) for vote in stored]
    assert sides[:5] == shown[:5]
    assert set(sides) == {("left-heavy", "right-heavy"), ("right-heavy", "left-heavy")}


@pytest.mark.slow
def test_a_lost_database_is_told_and_the_page_stays_where_it_was(browser: str, tmp_path: Path) -> None:
    study = study_of(tmp_path)

    async def act(page: Page, server: Any) -> None:
        await page.shows(0)
        await page.press("ArrowRight")
        await page.shows(1)
        before = await page.value("image")
        study.results.close()
        for path in tmp_path.glob("results.db*"):
            path.rename(path.with_name("away-" + path.name))
        await page.press("ArrowRight")
        await page.until("!document.getElementById('error').hidden && !busy")
        said = await page.value("document.getElementById('error').textContent")
        assert "not confirmed: the results store was lost" in said
        assert (await page.value("image"), await page.value("busy")) == (before, False)
        study.results.close()
        for path in tmp_path.glob("results.db*"):
            path.unlink()
        for path in tmp_path.glob("away-*"):
            path.rename(path.with_name(path.name.removeprefix("away-")))
        await page.press("ArrowLeft")
        await page.shows(2)
        assert await page.value("document.getElementById('error').hidden")

    visit(browser, study, act)
    assert [vote["choice"] for vote in votes(study)] == ["right", "left"]
