"""Reports in a real browser, from a file and with no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.report.page import Page
from edge_sdk.report.profile_page import profile_page

from ..sinks.test_http_page import CHROMIUM, Browser  # noqa: TID252  there is no package of tests to name
from .profiles import make_profile

pytest.importorskip("plotly", reason="plotly is not installed")

DRAWN = """(() => {
  const boxes = [...document.querySelectorAll('[data-plot]')];
  return boxes.length > 0 && boxes.every(box => box.querySelector('.main-svg')?.getBoundingClientRect().height > 100);
})()"""
SORT = """(() => {
  const table = document.querySelector('table[data-sortable]');
  const button = [...table.querySelectorAll('th button')].find(one => one.textContent === 'energy J');
  button.click();
  const head = button.closest('th');
  return [head.getAttribute('aria-sort'), [...table.tBodies[0].rows].map(row => row.cells[head.cellIndex].textContent)];
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: there is no {CHROMIUM}")
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


def check(browser: Browser, page: Page, path: Path, *, width: int, dark: bool) -> None:
    """Opens a page; it must be drawn, fit, ask for nothing and have no error."""
    page.save(path)
    browser.open(path.as_uri(), width=width, height=800, dark=dark)
    browser.until(f"document.readyState === 'complete' && location.href.endsWith('{path.name}')")
    browser.until(DRAWN)
    assert browser.value("document.querySelectorAll('.main-svg .trace').length") > 5
    assert browser.value("document.documentElement.scrollWidth") <= width  # nothing hangs out at the side
    assert browser.value("performance.getEntriesByType('resource').length") == 0
    titles = browser.value("[...document.querySelectorAll('.modebar-btn')].map(one => one.dataset.title).join()")
    assert "Zoom" in titles
    assert "loud" not in titles  # no button sends the data to Plotly's cloud
    assert (browser.screenshot()[4, 4] < 60).all() == dark
    assert browser.complaints == []


def test_a_browser_draws_a_report_and_sorts_its_tables(browser: Browser, tmp_path: Path) -> None:
    check(browser, profile_page(make_profile("absent")), tmp_path / "report.html", width=1600, dark=False)
    up, down = browser.value(SORT), browser.value(SORT)
    assert up == ["ascending", ["35.00", "35.20", "35.30", "61.80", "62.00", "62.20", "-"]]
    assert down == ["descending", ["62.20", "62.00", "61.80", "35.30", "35.20", "35.00", "-"]]


def test_on_a_dark_phone_hostile_names_are_names(browser: Browser, tmp_path: Path) -> None:
    kind: Any = "weird"
    check(browser, profile_page(make_profile(kind)), tmp_path / "weird.html", width=360, dark=True)
    assert browser.value("document.querySelectorAll('section b, section script, svg a').length") == 0
    assert "</script>" in browser.value("document.querySelector('.legendtext').textContent")
