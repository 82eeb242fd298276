"""The report in a real browser: no errors, nothing fetched, readable in light and dark, from phone to wall, and alive.

Chromium is driven from its command line: a copy of the page gets a script that watches, acts and measures, and leaves
what it found in the document that `--dump-dom` prints.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unetkit.report import write_report

pytestmark = pytest.mark.browser

QUIET = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--no-first-run", "--virtual-time-budget=3000",
]  # fmt: skip

# Written before everything else of the page, so that no error escapes it.
WATCH = """<script>
const seen = [];
addEventListener("error", (e) => seen.push("error: " + (e.message || e.target.outerHTML)), true);
addEventListener("unhandledrejection", (e) => seen.push("rejected: " + e.reason));
addEventListener("securitypolicyviolation", (e) => seen.push("policy: " + e.violatedDirective + " " + e.blockedURI));
const settled = () => new Promise((resolve) => setTimeout(resolve, 50));
async function report(work) {
  let result = null;
  try { result = await work(); } catch (e) { seen.push("thrown: " + e); }
  const out = document.createElement("pre");
  out.id = "outcome";
  out.textContent = JSON.stringify({ seen, result });
  document.body.append(out);
  parent.postMessage(out.textContent, "*");
}
</script>"""


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., Any]:
    """`browse(page, script, width=…, dark=…)`: what `script` (the body of an async function) returns in the page."""
    browser = next(
        (found for n in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(n))), None
    )
    if browser is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")

    def run(page: Path, script: str, width: int = 1280, dark: bool = False) -> Any:
        source = page.read_text(encoding="utf-8")
        # the copy may run the test's script beside its own; everything else stays forbidden
        source = re.sub(r"script-src 'sha256-[^']+'", "script-src 'unsafe-inline'", source, count=1)
        source = source.replace("<style>", WATCH + "<style>", 1)
        act = f"<script>addEventListener('load', () => report(async () => {{ {script} }}));</script>"
        (tmp_path / "copy.html").write_text(source.replace("</body>", act + "</body>"), encoding="utf-8")
        # windows cannot be narrower than 500 pixels, frames can
        frame = f"""<body style="margin:0"><iframe src="copy.html" style="border:0;width:{width}px;height:900px">
            </iframe><pre id="outcome"></pre><script>onmessage = (e) => {{ outcome.textContent = e.data; }};</script>"""
        (tmp_path / "frame.html").write_text(frame, encoding="utf-8")
        profile = tmp_path / f"profile-{time.monotonic_ns()}"
        command = [browser, *QUIET, f"--user-data-dir={profile}", f"--window-size={max(width, 500)},900", "--dump-dom"]
        command += ["--force-dark-mode"] if dark else []
        done = subprocess.run(
            [*command, (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=90, check=True
        )
        outcome = re.search(r'<pre id="outcome">(.*?)</pre>', done.stdout, re.S)
        assert outcome is not None, done.stderr[-2000:]
        assert outcome[1], done.stderr[-2000:]
        found = json.loads(html.unescape(outcome[1]))
        assert found["seen"] == []
        return found["result"]

    return run


def test_sorts_mixes_enlarges_and_unfolds(made_run: Callable[..., Path], browse: Callable[..., Any]) -> None:
    script = """
      const table = document.querySelector("table[data-sortable]");
      const first = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
      const press = (n) => table.tHead.rows[0].cells[n].querySelector("button").click();
      const out = { initial: first() };
      press(0); out.byName = first();
      press(0); out.byNameDown = first();
      press(2); out.byDice = [...table.tBodies[0].rows].map((row) => +row.cells[2].dataset.value);
      out.sorted = [...table.tHead.rows[0].cells].map((cell) => cell.getAttribute("aria-sort"));
      const overlays = document.getElementById("overlays"), tools = document.getElementById("tools");
      const shown = (kind) => getComputedStyle(overlays.querySelector("." + kind));
      out.tools = tools.hidden;
      out.before = [shown("fill").display, shown("line").display, shown("fill").opacity];
      tools.querySelector("[type=range]").value = 20;
      tools.querySelector("[type=range]").dispatchEvent(new Event("input", { bubbles: true }));
      out.mixed = shown("fill").opacity;
      tools.querySelector("[value=contours]").click();
      out.after = [shown("fill").display, shown("line").display];
      overlays.querySelectorAll(".zoom")[1].click();
      const dialog = document.getElementById("large");
      out.large = [dialog.open, dialog.querySelectorAll("svg").length, dialog.querySelector("strong").textContent];
      dialog.querySelector("button").click();
      await settled();
      out.closed = [dialog.open, dialog.querySelectorAll("svg").length];
      dispatchEvent(new Event("beforeprint"));
      out.details = [...document.querySelectorAll("details")].every((d) => d.open);
      return out;
    """
    found = browse(write_report(made_run()), script)
    names = [f"case0{n}" for n in range(6)]
    assert sorted(found["initial"]) == names
    assert found["byName"] == names
    assert found["byNameDown"] == names[::-1]
    assert found["byDice"] == sorted(found["byDice"])
    assert [s for s in found["sorted"] if s] == ["ascending"]
    assert found["tools"] is False
    assert found["before"] == ["inline", "none", "0.6"]
    assert found["mixed"] == "0.2"
    assert found["after"] == ["none", "inline"]
    assert found["large"] == [True, 1, "case00: the annotation over the image"]
    assert found["closed"] == [False, 0]
    assert found["details"] is True


# Contrast of every piece of text against what is behind it (WCAG 2.1, 1.4.3), and what sticks out of the page.
MEASURE = """
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const linear = (v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = (c) => [.2126, .7152, .0722].reduce((sum, share, n) => sum + share * linear(c[n] / 255), 0);
  const behind = (e) => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor); if (c.length && (c.length < 4 || c[3] === 1)) return c; }
    return [255, 255, 255]; };
  const faint = []; let checked = 0;
  document.querySelectorAll("details").forEach((d) => { d.open = true; });
  await settled();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    const seen = walker.currentNode.data.trim() && e.getClientRects().length;
    if (!seen || e.closest("script, style, .zoom, title")) continue;
    checked += 1;
    const style = getComputedStyle(e);
    const [a, b] = [light(parse(e.closest("svg") ? style.fill : style.color)), light(behind(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) faint.push(walker.currentNode.data.trim().slice(0, 30) + " " + ratio.toFixed(1));
  }
  const out = (e) => e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1;
  const wide = [...document.querySelectorAll("main *, header *")]
    .filter((e) => !e.closest(".scroll, nav, dialog") && out(e)).map((e) => e.outerHTML.slice(0, 80));
  return { faint, wide, checked, page: getComputedStyle(document.body).backgroundColor, width: innerWidth,
    scroll: document.documentElement.scrollWidth };
"""


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1440, False), (1440, True), (3840, False)])
def test_readable_in_every_light_and_width(
    made_run: Callable[..., Path], browse: Callable[..., Any], width: int, dark: bool
) -> None:
    run = made_run(classes=("background", "Zellmembran-und-Umgebung-ohne-Leerzeichen", "debris"))
    plan = json.loads((run / "plan.json").read_text())
    plan["data"]["synthetic"] = True
    (run / "plan.json").write_text(json.dumps(plan))
    found = browse(write_report(run), MEASURE, width=width, dark=dark)
    assert found["width"] == width
    assert found["checked"] > 150
    assert found["faint"] == []
    assert found["wide"] == []
    assert found["scroll"] <= width
    assert (sum(map(int, re.findall(r"\d+", found["page"]))) < 200) is dark


def test_complete_without_script_and_untouched(made_run: Callable[..., Path], browse: Callable[..., Any]) -> None:
    """The page as written, its own policy in force: its script runs, and a hostile name changes nothing."""
    run = made_run(classes=("background", "<img src=x onerror=document.title='owned'>", "debris"))
    page = write_report(run)
    found = browse(page, "return [document.title, document.images.length, document.scripts.length]")
    assert found == ["Finding <img src=x onerror=document.title='owned'> and debris · made-up · unetkit report", 0, 3]
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser is not None
    command = [browser, *QUIET, f"--user-data-dir={run.parent / 'profile'}", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout
    assert '<form class="tools" id="tools">' in dom  # shown by the script
    assert dom.count('class="zoom"') == 12


def test_a_run_that_has_nothing_yet(made_run: Callable[..., Path], browse: Callable[..., Any]) -> None:
    run = made_run()
    for path in run.rglob("*"):
        if path.is_file() and path.name != "plan.json":
            path.unlink()
    assert browse(write_report(run), "return document.querySelectorAll('h2').length") == 8
