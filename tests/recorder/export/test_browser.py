"""The HTML export in a real browser, offline: quiet, inert, and a click on a command shows its moment (F38, I-33)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recorder.export.html import page
from tests.peers_chromium import chromium
from tests.recorder.export.events import ABOUT, HALF_WAY, TERMINAL, build_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.peers_chromium import Tab

SCREEN = "document.querySelector('#screen').textContent"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """The page of a hostile recording, opened and ready."""
    folder = tmp_path_factory.mktemp("browser")
    file = folder / "session.html"
    file.write_bytes(b"".join(page(TERMINAL, ABOUT, part_text=20)))
    with chromium(folder) as opened:
        opened.open(file)
        opened.until("document.body && document.body.dataset.ready")
        yield opened


def click(tab: Tab, text: str) -> None:
    """Press the button that holds this text."""
    tab.evaluate(f"[...document.querySelectorAll('nav button')].find((b) => b.textContent.includes({text!r})).click()")


@pytest.mark.browser
@pytest.mark.timeout(120)
def test_a_click_on_a_command_shows_its_moment(tab: Tab, tmp_path: Path) -> None:
    """The list beside the screen seeks: clock, screen and highlighted command follow."""
    click(tab, "write: approved (1)")
    tab.until("document.querySelector('#at').textContent === '0.0'")
    click(tab, "execute: denied")
    tab.until("document.querySelector('#at').textContent === '9.0'")
    tab.until(f"{SCREEN}.includes('caf\u00e9')")
    assert not tab.evaluate(f"{SCREEN}.includes('needle')")
    assert "refused" in tab.evaluate("document.querySelector('button.now').className")
    picture = tab.screenshot()
    (tmp_path / "page.png").write_bytes(picture)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


@pytest.mark.browser
@pytest.mark.timeout(120)
def test_search_finds_what_was_shown(tab: Tab) -> None:
    """Across colours, in any case; a hit seeks to where it was printed."""
    tab.evaluate("document.querySelector('#wanted').value = 'THE HAYSTACK'")
    tab.evaluate("document.querySelector('#wanted').dispatchEvent(new Event('input'))")
    tab.until("document.querySelectorAll('#hits mark').length === 1")
    click(tab, "needle in the haystack")
    tab.until("document.querySelector('#at').textContent === '9.5'")
    tab.until(f"{SCREEN}.includes('needle in the haystack')")


@pytest.mark.browser
@pytest.mark.timeout(240)
def test_a_page_of_many_megabytes_stays_usable(tmp_path: Path) -> None:
    """60 MB of output: only the parts that are shown are unpacked, a click shows its moment, a search finds."""
    file = tmp_path / "long.html"
    file.write_bytes(b"".join(page(build_log(60 * 1024 * 1024), ABOUT)))
    with chromium(tmp_path) as opened:
        opened.open(file)
        opened.until("document.body && document.body.dataset.ready")
        assert opened.evaluate("JSON.parse(document.querySelector('#index').textContent).segments.length") >= 50
        click(opened, "write: half way")
        opened.until(f"{SCREEN}.includes('line {HALF_WAY - 1} ')")
        opened.evaluate(f"document.querySelector('#wanted').value = 'line {HALF_WAY + 5} '")
        opened.evaluate("document.querySelector('#wanted').dispatchEvent(new Event('input'))")
        opened.until("document.querySelectorAll('#hits mark').length === 1")
        assert opened.complaints() == []


@pytest.mark.browser
@pytest.mark.timeout(120)
def test_nothing_leaves_and_nothing_runs(tab: Tab) -> None:
    """One request, for the page itself; no complaint; what is hostile stands there as text."""
    assert [url.partition(":")[0] for url in tab.requests() if not url.startswith(("data:", "blob:"))] == ["file"]
    assert tab.complaints() == []
    assert tab.evaluate("document.title") != "owned"
    assert tab.evaluate("document.querySelectorAll('img, iframe, object').length") == 0
    assert "<img src=x" in tab.evaluate("document.querySelector('h1').textContent")
    blocked = tab.evaluate("fetch('https://example.com').then(() => 'sent', () => 'blocked')")
    assert blocked == "blocked"
