"""Chromium, headless, driven through chromedriver as a person would use it: go there, reload, look.

How this works. chromedriver speaks WebDriver (https://www.w3.org/TR/webdriver/), which is JSON over HTTP; a worker
thread waits for each answer. The browser gets a home directory of its own, in whose certificate database the test's CA
is trusted, so that it judges and resumes as it does for everybody.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from ..interop.processes import command_named, running

#: That it starts no service, asks nobody anything, and runs as root in a container.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """One browser with one window.

    Args:
      session: the URL of its WebDriver session.
    """

    def __init__(self, session: str) -> None:
        self._session = session

    async def go(self, url: str) -> None:
        """Open a page, and wait until it is there."""
        await self._ask("POST", "/url", {"url": url})

    async def reload(self) -> None:
        """Load the page again."""
        await self._ask("POST", "/refresh", {})

    async def run(self, script: str) -> Any:
        """What a script returns that runs in the page."""
        return await self._ask("POST", "/execute/sync", {"script": script, "args": []})

    async def console(self) -> list[str]:
        """What the console has got since it was asked last: errors, and violations of the policy."""
        return [
            f"{each['level']}: {each['message']}" for each in await self._ask("POST", "/se/log", {"type": "browser"})
        ]

    async def looks(self, *, width: int, dark: bool = False) -> None:
        """Show the page so many CSS pixels wide, in light or in dark colours."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        await self._command("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._command("Emulation.setEmulatedMedia", {"features": [scheme]})

    async def picture(self) -> bytes:
        """The whole page as it looks, PNG."""
        shot = await self._command("Page.captureScreenshot", {"captureBeyondViewport": True})
        return base64.b64decode(shot["data"])

    async def accessible_names(self) -> list[tuple[str, str]]:
        """Role and name of everything that a screen reader would tell."""
        await self._command("Accessibility.enable", {})
        nodes = (await self._command("Accessibility.getFullAXTree", {}))["nodes"]
        told = [each for each in nodes if not each.get("ignored")]
        return [(each["role"]["value"], each.get("name", {}).get("value", "")) for each in told]

    async def _command(self, name: str, parameters: dict[str, Any]) -> Any:
        return await self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        return await ask(method, self._session + path, body)


async def ask(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    """One WebDriver command."""

    def call() -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as response:
            return json.load(response)["value"]

    return await trio.to_thread.run_sync(call, abandon_on_cancel=True)


@asynccontextmanager
async def browser(home: Path, ca: Path, *, patience: float = 60) -> AsyncIterator[Browser]:
    """A browser that trusts this CA.

    Args:
      home: an empty directory for it.
      ca: the CA's certificate, PEM.
      patience: how many seconds it may take in all.
    """
    chromium = command_named("chromium", "Chromium (Debian's chromium)")
    driver = command_named("chromedriver", "Debian's chromium-driver")
    certutil = command_named("certutil", "Debian's libnss3-tools")
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    for arguments in (("-N", "--empty-password"), ("-A", "-t", "C,,", "-n", "test", "-i", str(ca))):
        await trio.run_process([certutil, "-d", f"sql:{database}", *arguments])
    async with running(driver, "--port=0", environment={"HOME": str(home)}, patience=patience) as process:
        await process.shows("started successfully on port")
        await process.shows("\n", times=process.output.count(b"\n", 0, process.output.index(b"successfully")) + 1)
        (port,) = re.findall(rb"started successfully on port (\d+)", process.output)
        root = f"http://127.0.0.1:{port.decode()}"
        options = {"args": [*FLAGS, f"--user-data-dir={home / 'profile'}"], "binary": chromium}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = await ask("POST", f"{root}/session", {"capabilities": {"alwaysMatch": wanted}})
        session = f"{root}/session/{made['sessionId']}"
        try:
            yield Browser(session)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
                await ask("DELETE", session)  # it ends the browser, which is a process of chromedriver's
