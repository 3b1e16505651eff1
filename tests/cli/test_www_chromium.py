"""``trio-tls serve --www`` in Chromium: what it offers, that a reload resumes, and that the page has no faults."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from .browser import Browser, browser
from .conftest import Files
from .driving import Running, on_both_machines
from .test_serve import server

pytestmark = pytest.mark.slow


async def tags(page: Browser) -> list[str]:
    found: list[str] = await page.run("return [...document.querySelectorAll('.tag')].map(each => each.textContent)")
    return found


async def facts(page: Browser) -> dict[str, str]:
    pairs: list[tuple[str, str]] = await page.run(
        "return [...document.querySelectorAll('.facts div')]"
        ".map(each => [each.children[0].textContent, each.children[1].firstChild.textContent])"
    )
    return dict(pairs)


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack("!II", png[16:24])
    return width, height


def make(directory: Path) -> Path:
    directory.mkdir()
    return directory


@on_both_machines
async def test_chromium_sees_its_own_handshake(files: Files, tmp_path: Path, options: tuple[str, ...]) -> None:
    run: Running
    async with server("--cert", files.server, "--www", *options) as (run, port):
        async with browser(make(tmp_path / "home"), files.ca) as page:
            await page.go(f"https://localhost:{port}/")
            told = await facts(page)
            assert told["Version"] == "TLS 1.3"
            assert told["Application protocol (ALPN)"] == "http/1.1"
            assert told["Server name (SNI)"] == "localhost"
            assert "GREASE" in await tags(page)
            if not options:
                assert told["Key exchange group"] == "X25519MLKEM768"
                assert "post-quantum" in await tags(page)

            # A browser connects ahead of need: the first reload may use a connection that is older than the session.
            for _ in range(4):
                if "session resumed" in await tags(page):
                    break
                await page.reload()
            assert "session resumed" in await tags(page)
            await run.shows("resumed session")

            for width in (1280, 390):
                pictures = set()
                for dark in (False, True):
                    await page.looks(width=width, dark=dark)
                    fits = await page.run("return document.documentElement.scrollWidth <= innerWidth")
                    assert fits, f"at {width} pixels one has to scroll sideways"
                    png = await page.picture()
                    assert size(png)[0] == width
                    pictures.add(png)
                assert len(pictures) == 2, "light and dark differ"
                if not options:
                    shown = await page.run(
                        "return [...document.querySelectorAll('figure svg')].filter(e => e.checkVisibility()).length"
                    )
                    assert shown == 1, "one ladder, as wide as the page allows"

            assert await page.console() == [], "no error, and nothing that the policy forbids"
            names = await page.accessible_names()
            assert sum(role == "heading" for role, _ in names) >= 8
            assert any(role == "rowheader" and name == "server_name" for role, name in names)
            if not options:
                assert any(role == "image" and name.startswith("TLS handshake with 127.0.0.1:") for role, name in names)
            await page.go(f"https://localhost:{port}/json")
            assert '"server_name": "localhost"' in await page.run("return document.body.textContent")
        run.press_ctrl_c()
        await run.ends()
    assert b"failed" not in run.out
