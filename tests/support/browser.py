"""A headless browser, where the machine has one: what a page looks like, and what its own script would see."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PROBE = """<script>window.addEventListener("load", () => setTimeout(() => {
  const seen = JSON.stringify(%s);
  document.documentElement.dataset.seen = seen;
  parent.postMessage(seen, "*");
}, 200));</script>"""
_PHONE = """<!DOCTYPE html><html><body style="margin: 0">
<iframe src="%s" style="border: 0; width: %dpx; height: %dpx"></iframe>
<script>window.addEventListener("message", (e) => { document.documentElement.dataset.seen = e.data; });</script>
</body></html>"""
_NARROWEST = 500
"""Windows are never narrower: a phone's page stands in a frame."""


class Browser:
    """Chromium, without a network."""

    def __init__(self, program: str) -> None:
        self._program = program

    def seen(self, page: Path, expression: str, *, width: int = 1280, height: int = 20000) -> Any:
        """The value of a JavaScript expression in the page, once it is loaded."""
        probed = page.with_name(f"probed-{page.name}")
        probed.write_text(page.read_text(encoding="utf-8") + _PROBE % expression, encoding="utf-8")
        text = self._run(probed, width, height, "--dump-dom", "--virtual-time-budget=8000").stdout
        found = re.search(r'<html[^>]* data-seen="([^"]*)"', text)
        assert found, text[:2000]
        return json.loads(html.unescape(found[1]))

    def picture(self, page: Path, width: int, height: int) -> Image.Image:
        """A screenshot of the page's upper part."""
        file = page.with_name(f"{page.stem}-{width}.png")
        self._run(page, width, height, f"--screenshot={file}", "--hide-scrollbars")
        return Image.open(file).convert("RGB").crop((0, 0, width, height))

    def _run(self, page: Path, width: int, height: int, *options: str) -> subprocess.CompletedProcess[str]:
        profile = f"--user-data-dir={page.parent / 'profile'}"
        offline = "--host-resolver-rules=MAP * ~NOTFOUND"
        command = [self._program, "--headless", "--no-sandbox", "--disable-gpu", profile, offline, *options]
        if width < _NARROWEST:
            framed = page.with_name(f"framed-{page.name}")
            framed.write_text(_PHONE % (page.name, width, height), encoding="utf-8")
            page, width = framed, _NARROWEST
        command += [f"--window-size={width},{height}", page.resolve().as_uri()]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


@pytest.fixture(scope="session")
def browser() -> Browser:
    """Tests of pages are skipped, visibly, where there is no Chromium."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(_NAMES)} is installed")
    return Browser(program)
