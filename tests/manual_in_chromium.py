"""The manual as readers see it: at a desktop's and at a phone's width nothing is cut off. ``nox -s docs`` runs this.

How this works. It is not collected by itself, for it looks at the pages that Sphinx has made. What is wider than its
place scrolls, or is cut off; code may scroll, and so may the tables of the bench, whose first column stays in sight.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .cli.browser import browser
from .support import authority

PAGES = Path(__file__).parent.parent / "docs" / "_build" / "html"

#: What is wider than its place, and may not be: the window itself, a table, or what nobody could scroll to.
TOO_WIDE = """
const wide = [];
const window_width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > window_width) wide.push('the page');
for (const each of document.querySelectorAll('article .table-wrapper:not(.benchmark)'))
  if (each.scrollWidth > each.clientWidth + 1) wide.push('a table: ' + each.innerText.slice(0, 60));
for (const each of document.querySelectorAll('article *')) {
  let place = each;
  while (place.tagName !== 'ARTICLE' && !['auto', 'scroll'].includes(getComputedStyle(place).overflowX))
    place = place.parentElement;
  if (place.tagName === 'ARTICLE' && each.getBoundingClientRect().right > window_width + 1)
    wide.push(each.tagName + ': ' + (each.innerText || '').slice(0, 60));
}
return wide;
"""


@pytest.mark.parametrize("width", [1280, 390])
async def test_nothing_is_wider_than_its_place(width: int, tmp_path: Path) -> None:
    names = sorted(path.name for path in PAGES.glob("*.html"))
    assert "index.html" in names, "nox -s docs makes the pages"
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority().cert_pem.bytes())
    home = tmp_path / "home"
    home.mkdir()
    found = {}
    async with browser(home, ca, patience=240) as page:  # some fifty pages
        await page.looks(width=width)
        for name in names:
            await page.go((PAGES / name).as_uri())
            if wide := await page.run(TOO_WIDE):
                found[name] = wide
    assert found == {}
