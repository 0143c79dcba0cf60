"""Pages in headless Chromium: a script is added that acts as a reader would and reports."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
_EARS = "<script>window.faults = []; onerror = text => { faults.push(String(text)); };</script>"


def chromium() -> str:
    """Return the browser's program; skip the test where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    return found


def run_chromium(page: Path, folder: Path, *switches: str) -> str:
    words = [
        chromium(), *_SWITCHES, f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=6000", *switches, page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def ask(page: Path, folder: Path, script: str, width: int = 1400, *switches: str) -> Any:
    """Return what a script's function body returns after the page has settled.

    The width holds by a frame, since a headless window may be no narrower than 500 pixels.
    """
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{_EARS}", 1)
    probe = (
        "<script>setTimeout(async () => { let found; try { found = await (async () => {"
        f"{script}"
        "})(); } catch (error) { found = 'fault: ' + error; }"
        "const out = parent.document.createElement('pre'); out.id = 'probe';"
        "out.textContent = JSON.stringify({ found, faults });"
        "parent.document.body.append(out); }, 800);</script>"
    )
    inner = folder / "inner.html"
    inner.write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    outer = folder / "outer.html"
    outer.write_text(
        f'<body style="margin:0"><iframe src="inner.html" style="border:0;width:{width}px;'
        'height:2000px"></iframe></body>'
    )
    dump = run_chromium(
        outer, folder, "--dump-dom", "--allow-file-access-from-files",
        f"--window-size={max(width, 500)},2000", *switches,
    )  # fmt: skip
    match = re.search(r'<pre id="probe">(.*?)</pre>', dump, re.DOTALL)
    assert match, dump[-2000:]
    answer = json.loads(html.unescape(match[1]))
    assert answer["faults"] == []
    assert not str(answer["found"]).startswith("fault: "), answer["found"]
    return answer["found"]
