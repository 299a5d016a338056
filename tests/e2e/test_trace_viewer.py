"""The trace viewer in a real browser: clicked through with mouse and keys, with and without its script."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator

import pytest
from chromium import BROWSER_VARIABLE, Page, browser, find_browser
from PIL import Image
from websockets.sync.client import ClientConnection

from pipelines.trace_page import write_trace_page
from reasoning.protocols import ContinuationRequest
from reasoning.records import ImageRef, Question
from reasoning.search import run_search
from reasoning.search.config import SearchConfig, SelectorKind
from reasoning.search.result import SearchResult
from reasoning.stages import Stage, render_stage
from reasoning.testing import ScriptedEngine

HOSTILE = (
    'say "plain"',
    "</p></article><script>window.hacked = 1</script>",
    '<img src="x" onerror="window.hacked = 2"> \'quoted\' & "quoted"',
    "</script></style><a href=\"javascript:window.hacked = 3\" onclick='window.hacked = 4'>go</a>",
)
SELECTED = "document.querySelector('.selected')"


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (48, 48), "navy").save(stream, "PNG")
    return stream.getvalue()


QUESTION = Question(id="q1", question="How many <b>cubes</b> are there?", answer="2", image=ImageRef(data=png()))


def write(request: ContinuationRequest, index: int) -> str:
    """Stages of hostile texts; a judge that cannot be read on summaries and is of two minds on captions."""
    if "Compare two responses" in request.prompt:
        if request.stage is Stage.SUMMARY:
            return "<script>window.hacked = 5</script> both"
        return "Since <i>so</i>, I choose response 1."
    assert request.stage is not None
    if request.stage is Stage.CONCLUSION:
        return render_stage(request.stage, str(index))
    return render_stage(request.stage, HOSTILE[index])


@pytest.fixture(scope="module")
def result() -> SearchResult:
    engine = ScriptedEngine(write)
    config = SearchConfig(samples=4, selector=SelectorKind.JUDGE_TEXT)
    clock = lambda: 0.25 * len(engine.batches)  # noqa: E731
    return asyncio.run(run_search(QUESTION, config, generator=engine, judge=engine, clock=clock))


@pytest.fixture(scope="module")
def address(result: SearchResult, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "tree.html"
    write_trace_page(path, QUESTION, result.trace, conclusion=result.conclusion, ledger=result.ledger)
    return path.as_uri()


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientConnection]:
    program = find_browser()
    if program is None:
        pytest.skip(f"no Chromium: install one (Debian: apt-get install chromium) or name one in {BROWSER_VARIABLE}")
    with browser(program, tmp_path_factory.mktemp("profile")) as socket:
        yield socket


@pytest.fixture
def page(devtools: ClientConnection, address: str) -> Page:
    found = Page(devtools)
    found.open(address)
    return found


def node(number: int) -> str:
    return f"a.node[href='#c{number}']"


def shown(page: Page, selector: str = "article.candidate") -> list[str]:
    """The names of the candidates that can be seen."""
    seen = f"[...document.querySelectorAll('{selector}')].filter(e => e.checkVisibility({{visibilityProperty: true}}))"
    names = page.evaluate(f"{seen}.map(e => (e.querySelector('header code') || e.querySelector('text')).textContent)")
    return [str(name) for name in names]


def test_page_opens_on_the_answer_and_asks_nobody_for_anything(page: Page, address: str, result: SearchResult) -> None:
    assert shown(page) == [result.trace.chosen[-1]]
    assert page.evaluate("document.querySelector('[aria-current]').textContent") == result.trace.chosen[-1]
    assert page.evaluate("document.querySelector('.asked img').naturalWidth") == 48
    assert page.evaluate("document.querySelector('.question').textContent") == QUESTION.question
    assert page.requests == [address]
    assert page.complaints == []


def test_a_click_on_a_node_shows_its_candidate_whole(page: Page, result: SearchResult) -> None:
    for number, candidate in enumerate(result.trace.candidates, 1):
        page.click(node(number))
        assert shown(page) == [candidate.id]
        assert page.evaluate(f"{SELECTED}.querySelector('.text').textContent") == candidate.text
        facts = page.evaluate(f"{SELECTED}.querySelector('.facts').textContent")
        assert str(candidate.seed) in facts
        assert "its closing tag" in facts
    assert page.evaluate("location.hash") == f"#c{len(result.trace.candidates)}"
    assert page.complaints == []


def test_nothing_a_model_wrote_becomes_part_of_the_page(page: Page) -> None:
    page.click(node(3))
    page.click("button[data-mode='list']")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.scripts.length") == 1
    assert page.evaluate("document.querySelectorAll('img').length") == 1
    assert page.evaluate("document.querySelectorAll('.reader a:not(.jump), [onerror], [onclick]').length") == 0


def test_a_verdict_leads_to_whom_it_was_about(page: Page, result: SearchResult) -> None:
    met = next(one for one in result.trace.comparisons if one.stage is Stage.CAPTION)
    place = {candidate.id: number for number, candidate in enumerate(result.trace.candidates, 1)}
    page.click(node(place[met.first]))
    verdict = page.evaluate(f"{SELECTED}.querySelector('.meetings li').textContent")
    assert "tied" in verdict
    assert "the orders disagree" in verdict
    assert "Since <i>so</i>, I choose response 1." in verdict
    page.click(f".selected .meetings .jump[href='#c{place[met.second]}']")
    assert shown(page) == [met.second]
    # Who goes by keyboard goes on from there.
    assert page.evaluate("document.activeElement.id") == f"c{place[met.second]}"
    page.click(node(1))
    assert "unreadable" in page.evaluate(f"{SELECTED}.querySelector('.meetings').textContent")


def test_keys_walk_the_tree(page: Page, result: SearchResult) -> None:
    for _ in range(12):
        page.press("Tab")
        if page.evaluate("document.activeElement.matches('a.node')"):
            break
    page.press("Enter")
    assert shown(page) == ["S1.1"]
    page.press("ArrowRight")
    assert shown(page) == ["S1.2"]
    page.press("ArrowLeft")
    page.press("ArrowDown")
    assert shown(page) == [result.trace.chosen[1]]
    page.press("ArrowUp")
    assert shown(page) == ["S1.1"]
    page.press("Tab")
    page.press("Enter")
    assert shown(page) == ["S1.2"]
    assert page.complaints == []


def test_the_winning_path_alone_and_as_a_list(page: Page, result: SearchResult) -> None:
    chosen = list(result.trace.chosen)
    page.click(node(2))
    page.click("button[data-filter='path']")
    assert shown(page, "a.node") == chosen
    assert shown(page) == [chosen[-1]]
    page.click("button[data-mode='list']")
    assert shown(page) == chosen
    page.click("button[data-filter='all']")
    assert shown(page) == [candidate.id for candidate in result.trace.candidates]
    page.click("button[data-filter='path']")
    # Whoever is asked for is shown, path or not.
    page.click(".selected .meetings .jump")
    assert len(shown(page, "a.node")) == len(result.trace.candidates)


def test_tokens_times_and_counters_are_told(page: Page, result: SearchResult) -> None:
    counts = page.evaluate("[...document.querySelectorAll('.counts li')].map(e => e.textContent)")
    assert counts[:6] == ["candidates 16", "comparisons 12", "unreadable 3", "swapped 9", "tied 9", "fallbacks 1"]
    assert f"tokens {result.ledger.computed_tokens:,}" in counts
    assert page.evaluate("document.querySelectorAll('.times .bar').length") == len(result.trace.steps) == 8
    widths = page.evaluate("[...document.querySelectorAll('.times .bar')].map(e => e.getBoundingClientRect().width)")
    assert all(width > 1 for width in widths)
    assert "voted" not in page.evaluate("document.querySelector('.notice').textContent")
    assert page.evaluate("document.querySelector('.notice').textContent").endswith("took the likeliest instead")


def test_without_its_script_everything_can_be_read_and_reached(devtools: ClientConnection, address: str) -> None:
    page = Page(devtools)
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.open(address)
    assert len(shown(page)) == 16
    assert shown(page, ".controls") == []
    page.click(node(6))
    assert page.evaluate("document.querySelector(':target').id") == "c6"
    assert page.complaints == []


@pytest.mark.parametrize("width", [340, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_any_screen_in_light_and_dark(devtools: ClientConnection, address: str, width: int, scheme: str) -> None:
    page = Page(devtools)
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.open(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click(node(3))
    assert shown(page) == ["S1.3"]
    ink, paper = (brightness(page, name) for name in ("color", "backgroundColor"))
    assert (ink < 60 < 200 < paper) if scheme == "light" else (paper < 60 < 200 < ink)


def brightness(page: Page, name: str) -> float:
    value = page.evaluate(f"getComputedStyle(document.body).{name}")
    red, green, blue = (int(part) for part in value.removeprefix("rgb(").removesuffix(")").split(","))
    return (red + green + blue) / 3


def test_the_pages_policy_stops_a_script_that_got_in_all_the_same(page: Page) -> None:
    page.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.hacked = 1';"
        " document.body.append(s); })()"
    )
    assert page.evaluate("window.hacked") is None
    assert "Content Security Policy" in page.wait_for("Log.entryAdded")["entry"]["text"]
    assert page.complaints


def test_the_pages_policy_stops_a_picture_from_elsewhere(page: Page) -> None:
    page.evaluate(
        "(() => { const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png';"
        " document.body.append(i); })()"
    )
    assert page.wait_for("Network.loadingFailed")["blockedReason"] == "csp"


def test_a_picture_of_the_page_is_no_blank(page: Page) -> None:
    data = base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"])
    colours = Image.open(io.BytesIO(data)).convert("RGB").getcolors(maxcolors=1 << 24)
    assert colours is not None
    assert len(colours) > 50
