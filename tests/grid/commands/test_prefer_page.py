"""The preference page in a real browser: keys and clicks become votes in the database."""

import base64
import io
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from grid.commands.prefer_server import serve
from grid.commands.preference import Study
from tests.browser.page import Page, visit
from tests.grid.preference_study import EXPERIMENT, N_IMAGES, study_of


async def shows(page: Page, done: int) -> None:
    """So many votes are confirmed, and the next can be given."""
    await page.until(f"document.getElementById('count').textContent === '{done} of {N_IMAGES}' && !busy")


async def red_half(page: Page, side: str) -> str:
    """In which half of the picture on this side the evidence is: whose explanation it is."""
    uri = await page.value(f"document.querySelector('#{side} img').src")
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    red = (pixels[..., 0] - pixels[..., 2]).mean(axis=0)
    middle = len(red) // 2
    return "left-heavy" if red[:middle].mean() > red[middle:].mean() else "right-heavy"


def visit_study(browser: str, study: Study, act: Callable[[Page, Any], Awaitable[None]]) -> None:
    """Opens the study's page in the browser and does `act` with the page and the server."""
    server = serve(study, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()

    async def on_page(page: Page) -> None:
        await page.until("typeof busy !== 'undefined'")
        await act(page, server)

    try:
        visit(browser, f"http://127.0.0.1:{server.server_port}/", on_page)
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
        await shows(page, 0)
        for done, way in enumerate(("ArrowLeft", "ArrowRight", "ArrowDown", "d"), start=1):
            shown.append((await red_half(page, "left"), await red_half(page, "right")))
            await page.press(way)
            await shows(page, done)
        await page.press("ArrowLeft", repeat=True)  # a key that is held down
        for done, way in enumerate(("left", "right", "tie"), start=5):
            shown.append((await red_half(page, "left"), await red_half(page, "right")))
            await page.click(f"#{way}")
            await shows(page, done)
        await page.press("u")
        await shows(page, 6)
        await page.click("#undo")
        await shows(page, 5)
        if folder := os.environ.get("SCREENSHOT"):
            taken = await page.send("Page.captureScreenshot")
            Path(folder).write_bytes(base64.b64decode(taken["data"]))
        for done in (6, 7, 8):
            await page.press("ArrowLeft")
            await shows(page, done)
        assert await page.value("document.getElementById('pair').hidden")
        assert "Thank you" in await page.value("document.body.innerText")
        await page.press("ArrowLeft")  # there is nothing left to vote on
        own = f"http://127.0.0.1:{server.server_port}/"
        assert [url for url in page.requested if not url.startswith((own, "data:"))] == []

    visit_study(browser, study, act)
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
        await shows(page, 0)
        await page.press("ArrowRight")
        await shows(page, 1)
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
        await shows(page, 2)
        assert await page.value("document.getElementById('error').hidden")

    visit_study(browser, study, act)
    assert [vote["choice"] for vote in votes(study)] == ["right", "left"]
