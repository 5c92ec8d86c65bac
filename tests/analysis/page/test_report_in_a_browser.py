"""The report in a real browser: sorted, filtered, on a phone, on paper, and asking nothing of the network."""

import base64
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from analysis.page.report import write_report
from grid.results.store import ResultsStore
from tests.analysis.conftest import fill
from tests.analysis.page.test_report import recorded
from tests.browser.page import Page, visit

pytestmark = pytest.mark.slow
TABLE = "table.leaderboard"
COLUMNS = {"method": 1, "worst group": 3}
WIDTH = 390  # pixels of a phone


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Two data sets: `toybirds` with pictures, one of them wide; and `d` with a method that has no worst group
    and knobs that are one long word."""
    store = ResultsStore.open(f"sqlite:///{tmp_path}/results.db")
    fill(store, tmp_path)
    Image.new("RGB", (1000, 300)).save(tmp_path / "salf_cbm-10-0" / "pictures" / "7.png")
    launch = store.begin_launch("small", spec="question: Why?", plan={}, command="run " + "y" * 300)
    for method, worst in (("eleven", 0.11), ("nine", 0.09), ("lost", None), ("ten", 0.1)):
        numbers: list[dict[str, Any]] = [{"name": "average_accuracy", "value": 0.9, "split": "test"}]
        if worst is not None:
            numbers.append({"name": "worst_group_accuracy", "value": worst, "split": "test"})
        for k in range(2):
            recorded(store, "small", launch, method, 0, {"k": f"{method}{k}" + "x" * 300}, numbers)
    write_report(store, "small", tmp_path / "small.html")
    store.close()
    return tmp_path / "small.html"


def button(header: str) -> str:
    return f"{TABLE} th:nth-child({COLUMNS[header]}) button"


async def column(page: Page, header: str) -> list[str]:
    """The first lines of a column's cells that can be seen, from top to bottom."""
    found: list[str] = await page.value(
        f"[...document.querySelector('{TABLE}').querySelectorAll('tbody tr')].filter(row => row.offsetParent)"
        f".map(row => row.cells[{COLUMNS[header] - 1}].innerText.split('\\n')[0])"
    )
    return found


async def told_order(page: Page, header: str) -> Any:
    return await page.value(f"document.querySelector('{button(header)}').parentElement.ariaSort")


def test_a_header_sorts_by_mouse_and_keyboard_and_what_is_missing_is_last(browser: str, report: Path) -> None:
    async def act(page: Page) -> None:
        falling = ["0.110", "0.110", "0.100", "0.100", "0.090", "0.090"]
        await page.click(button("method"))
        assert await column(page, "method") == sorted(2 * ["eleven", "lost", "nine", "ten"])
        assert (await told_order(page, "method"), await told_order(page, "worst group")) == (
            "ascending",
            None,
        )
        await page.click(button("worst group"))
        assert await column(page, "worst group") == [*falling, "–", "–"]
        assert (await told_order(page, "method"), await told_order(page, "worst group")) == (
            None,
            "descending",
        )
        await page.press("Enter")  # the header that was clicked has the focus
        assert await column(page, "worst group") == [*reversed(falling), "–", "–"]
        assert await told_order(page, "worst group") == "ascending"

    visit(browser, report.as_uri(), act)


def test_a_filter_hides_the_rows_without_its_words(browser: str, report: Path) -> None:
    async def act(page: Page) -> None:
        before = await column(page, "method")
        await page.value("document.querySelector('.filter input').focus()")
        await page.send("Input.insertText", text="X NIN")
        assert await column(page, "method") == ["nine", "nine"]
        assert await page.value("document.querySelector('.filter [role=status]').innerText") == "2 of 8 rows"
        await page.value("document.querySelector('.filter input').select()")
        await page.send("Input.insertText", text="0.100")
        assert await column(page, "method") == ["ten", "ten"]
        await page.value("document.querySelector('.filter input').select()")
        await page.send("Input.insertText", text=" ")
        assert await column(page, "method") == before

    visit(browser, report.as_uri(), act)


def test_on_a_phone_only_tables_and_plots_scroll_sideways(browser: str, report: Path) -> None:
    async def act(page: Page) -> None:
        await page.send(
            "Emulation.setDeviceMetricsOverride", width=WIDTH, height=844, deviceScaleFactor=1, mobile=True
        )
        assert await page.value("[innerWidth, document.documentElement.scrollWidth]") == [WIDTH, WIDTH]
        assert await page.value(
            "[...document.querySelectorAll('.wide')].some(box => box.scrollWidth > box.clientWidth)"
        ), "what is wide is in a box"
        assert await page.value(
            "Math.min(...[...document.querySelectorAll('body *')].filter(e => e.innerText)"
            ".map(e => parseFloat(getComputedStyle(e).fontSize)))"
        ) >= 11  # fmt: skip

    visit(browser, report.as_uri(), act)


def test_it_is_printed_with_its_text(browser: str, report: Path) -> None:
    async def act(page: Page) -> None:
        outlined = {"generateTaggedPDF": True, "generateDocumentOutline": True}
        printed = base64.b64decode((await page.send("Page.printToPDF", **outlined))["data"])
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 1
        for heading in (b"Leaderboard", b"Failures and warnings", b"Provenance"):
            assert b"/Title (" + heading + b")" in printed
        streams = re.findall(rb"/FlateDecode[^>]*>>\s*stream\r?\n(.*?)endstream", printed, re.DOTALL)
        shown = b"".join(zlib.decompressobj().decompress(stream) for stream in streams)
        assert len(re.findall(rb"\bT[jJ]\b", shown)) > 100, "texts are drawn as text"
        await page.send("Emulation.setEmulatedMedia", media="print")
        hidden = await page.value(
            "[...document.querySelectorAll('.filter')].map(bar => getComputedStyle(bar).display)"
        )
        assert set(hidden) == {"none"}

    visit(browser, report.as_uri(), act)


def test_nothing_is_asked_of_the_network_and_every_image_has_a_text(browser: str, report: Path) -> None:
    async def act(page: Page) -> None:
        assert page.said == [], "no error of the page's own script"
        assert [url for url in page.requested if not url.startswith("data:")] == [report.as_uri()]
        assert await page.value("document.images.length") > 3
        assert await page.value("[...document.images].every(image => image.alt && image.naturalWidth)")

    visit(browser, report.as_uri(), act)


def test_a_browser_refuses_what_a_page_that_was_tampered_with_asks_for(browser: str, report: Path) -> None:
    tampered = report.with_name("tampered.html")
    asking = (
        '<img src="http://127.0.0.1:9/a.png" alt="a"><script>fetch("http://127.0.0.1:9/b")</script></body>'
    )
    tampered.write_text(report.read_text().replace("</body>", asking))

    async def act(page: Page) -> None:
        refused = " ".join(line for line in page.said if "Content Security Policy" in line)
        for asked in ("http://127.0.0.1:9/a.png", "http://127.0.0.1:9/b"):
            assert asked in refused

    visit(browser, tampered.as_uri(), act)
