"""A page in a real browser: how wide it gets on a telephone, its colours, and what it asks for."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    # The page around the report looks into it; both are files.
    "--allow-file-access-from-files",
    "--window-size=600,1000",
)
_AROUND: Final = """<!DOCTYPE html>
<html><body><iframe id="it" src="PAGE" style="width: 390px; height: 900px; border: 0"></iframe><pre id="seen"></pre>
<script>
const it = document.getElementById("it");
function behind(element) {
  for (let each = element; each; each = each.parentElement) {
    const colour = it.contentWindow.getComputedStyle(each).backgroundColor;
    if (!/^rgba\\(.*, 0\\)$/.test(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
}
function look() {
  const page = it.contentDocument, style = each => it.contentWindow.getComputedStyle(each);
  const all = selector => [...page.querySelectorAll(selector)];
  const seen = {
    dark: it.contentWindow.matchMedia("(prefers-color-scheme: dark)").matches,
    width: page.documentElement.clientWidth,
    needed: page.documentElement.scrollWidth,
    asked: it.contentWindow.performance.getEntriesByType("resource").map(each => each.name),
    plots: all("svg").map(each => [each.getBoundingClientRect().width, each.getBoundingClientRect().height]),
    marks: [
      ...all(".series path.line").map(each => [style(each).stroke, behind(each), "line"]),
      ...all(".series rect.rect").map(each => [style(each).fill, behind(each), "bar"]),
    ],
    texts: [
      ...all("svg text").map(each => [style(each).fill, behind(each), each.textContent]),
      ...all("h1, h2, p, dt, dd, th, td, code, li, footer, strong, figcaption")
        .map(each => [style(each).color, behind(each), each.textContent.trim().slice(0, 30)]),
    ],
  };
  document.getElementById("seen").textContent = JSON.stringify(seen);
}
it.addEventListener("load", look);
</script></body></html>"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a page looks like in a frame of 390 pixels.

    Attributes:
        facts: widths, plots, colours with what is behind them, and what was asked for.
        complaints: what the browser's console says.
    """

    facts: dict[str, Any]
    complaints: list[str]


def browser() -> str | None:
    """The program of a browser of Chromium's kind; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def look_at(page: Path, folder: Path, *, dark: bool) -> Seen:
    """Open a page in a browser of its own.

    Args:
        page: the HTML file.
        folder: for the browser's profile; one that is not there yet.
        dark: whether the reader prefers dark colours.
    """
    program = browser()
    assert program is not None
    folder.mkdir()
    around = folder / "around.html"
    around.write_text(_AROUND.replace("PAGE", page.as_uri()))
    done = subprocess.run(
        [
            program,
            *_OPTIONS,
            f"--user-data-dir={folder / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--dump-dom",
            around.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(json.loads(html.unescape(found[1])), complaints)


def contrast(one: str, other: str) -> float:
    """How far two colours, as a browser tells them, stand out from each other, by WCAG: from 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (float(number) / 255 for number in re.findall(r"[\d.]+", colour)[:3])
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
