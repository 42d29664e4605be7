"""The report in a real headless browser: filters, media, width, and that nothing runs or leaves."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.eval.grading import Answer
from components.eval.report.data import ModelResult, ReportData
from components.eval.report.page import build_report
from tests.browser import CHROMIUM, Page, browser
from tests.components.eval.report_kit import (
    WEIGHTS,
    answer,
    four_pairs,
    judgement,
    made_up,
    record,
)

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium")
PHONE = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


def show(page: Page, data: ReportData, folder: Path) -> None:
    path = folder / "report.html"
    path.write_text(build_report(data).html)
    page.requests.clear()
    page.messages.clear()
    page.open(path)


def choose(page: Page, field: str, value: str) -> list[str]:
    """Set a field of the filter and return the headings of the examples that are then seen."""
    return page.run(
        f"""(async () => {{
          const [field, count] = ["filter", "shown"].map((id) => document.getElementById(id));
          count.textContent = "";
          field.elements["{field}"].value = "{value}";
          field.dispatchEvent(new Event("input", {{bubbles: true}}));
          while (!count.textContent) await new Promise((done) => setTimeout(done, 5));
          const seen = [...document.querySelectorAll(".example")].filter((e) => e.offsetHeight);
          return seen.map((e) => e.querySelector("h4").textContent);
        }})()"""
    )


def test_the_filters_show_what_they_say(page: Page, tmp_path: Path) -> None:
    show(page, four_pairs(), tmp_path)
    assert len(choose(page, "outcome", "")) == 4
    (wrong,) = choose(page, "outcome", "wrong")
    assert "a2" in wrong
    assert page.run("document.getElementById('shown').textContent") == "1 of 4"
    assert choose(page, "kind", "image") == []
    assert len(choose(page, "outcome", "right")) == 2
    assert len(choose(page, "words", "RED")) == 2
    assert choose(page, "words", "no such word") == []
    assert page.messages == []


def test_flipped_is_between_the_two_models_that_are_chosen(page: Page, tmp_path: Path) -> None:
    """Given SFT that says A of all four, so two are right, and GRPO right but for one order."""
    show(page, four_pairs(), tmp_path)
    assert len(choose(page, "outcome", "flipped")) == 2  # the pairs whose gold answer is B
    assert len(choose(page, "against", "0")) == 4
    assert len(choose(page, "model", "1")) == 2
    assert choose(page, "against", "1") == []
    assert len(choose(page, "outcome", "right")) == 2
    assert len(choose(page, "model", "0")) == 0
    assert len(choose(page, "outcome", "invalid")) == 4
    assert page.messages == []


def test_thousands_of_records_are_searched_and_drawn_when_asked_for(
    page: Page, tmp_path: Path
) -> None:
    records = [record(f"i{n}", asked=(f"Question {n}?", "It is red.", "Blue.")) for n in range(600)]
    sft = [judgement(r, answer("A"), answer("A"), {}) for r in records]
    grpo = [
        judgement(r, answer("B" if n % 2 else "A"), answer("A"), {}) for n, r in enumerate(records)
    ]
    models = [ModelResult("sft", sft), ModelResult("grpo", grpo)]
    show(page, ReportData("r", models, records, {}, bootstrap_samples=100), tmp_path)
    drawn = "document.querySelectorAll('.example').length"
    assert page.run(drawn) == 4
    assert page.run("document.getElementById('shown').textContent") == "600 of 600"
    (one,) = choose(page, "words", "question 577?")
    assert one.endswith("image · i577")
    assert "right in one order only" in one
    assert len(choose(page, "words", "")) == 24
    page.run("document.getElementById('further').click()")
    assert page.run(drawn) == 44
    choose(page, "outcome", "flipped")
    assert page.run("document.getElementById('shown').textContent") == "300 of 600"
    assert page.messages == []


def test_pictures_are_seen_and_sounds_and_clips_play(page: Page, tmp_path: Path) -> None:
    show(page, made_up(tmp_path, pairs=12), tmp_path)
    for kind in ("audio", "video"):
        page.run(f"document.querySelector('{kind}').play()")
        assert page.run(f"document.querySelector('{kind}').duration") > 0.2
    assert page.run("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    assert page.messages == []


def test_no_request_leaves_the_page(page: Page, tmp_path: Path) -> None:
    show(page, made_up(tmp_path, pairs=12), tmp_path)
    assert page.requests
    assert all(uri.startswith(("data:", tmp_path.as_uri())) for uri in page.requests)


def test_hostile_text_neither_runs_nor_asks_for_anything(page: Page, tmp_path: Path) -> None:
    """Given text that would run or fetch if the page took it for markup, from every source."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}"
        bad = (
            "</pre></script><script>window.ran = 1</script>"
            f"<img src='{at}/x' onerror='window.ran=1'>"
            f"<svg onload='window.ran=1'><link rel=stylesheet href='{at}/y'><a href='javascript:x'>"
        )
        records = [record(f"<b>i{n}", asked=(bad, bad, bad)) for n in range(6)]
        judged = [judgement(r, answer("A", bad), Answer(bad, error=bad)) for r in records]
        notes = [bad]
        data = ReportData(bad, [ModelResult("sft", judged)], records, WEIGHTS, notes=notes)
        show(page, data, tmp_path)
        assert len(choose(page, "outcome", "error")) == 6  # of which two are drawn by the script
        assert page.run("window.ran") is None
        assert page.messages == []
        # What would run if markup had come through all the same is stopped by the policy.
        page.run(
            f"""(() => {{
              const script = document.createElement("script");
              script.textContent = "window.ran = 2";
              document.body.append(script);
              new Image().src = "{at}/z";
            }})()"""
        )
        assert page.run("window.ran") is None
        fetched = page.run(f"fetch('{at}/f').then(() => true, () => false)")
        server.shutdown()
    assert fetched is False
    assert asked == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_scrolling_sideways(
    page: Page, tmp_path: Path, scheme: str
) -> None:
    data = replace(made_up(tmp_path, pairs=12), protocols=["lmms_mm_rewardbench"])
    page.call("Emulation.setDeviceMetricsOverride", **PHONE)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", features=features)
    try:
        show(page, data, tmp_path)
        assert page.run("document.documentElement.scrollWidth") <= PHONE["width"]
        lightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]"
        assert (int(page.run(lightness)) < 128) is (scheme == "dark")
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
        page.call("Emulation.setEmulatedMedia", features=[])


def test_print_leaves_out_what_only_a_screen_can_use(page: Page, tmp_path: Path) -> None:
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        show(page, four_pairs(), tmp_path)
        assert page.run("document.querySelector('nav').offsetHeight") == 0
        assert page.run("document.getElementById('filter').offsetHeight") == 0
        assert page.run("document.querySelectorAll('.example')[3].offsetHeight") > 0
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
