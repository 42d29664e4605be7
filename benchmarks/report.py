"""How fast a report of 5,000 examples opens, and how large it is: ``python -m benchmarks.report``.

Scores 5,000 predictions of three models, each some 700 characters long, and opens the page in a
headless Chromium three times. Prints its size (bar 15 MB), the shortest time from the start of
loading to the page's load event, all scripts run (bar 2 s), and that of the first search over all
examples, which unpacks them.
"""

import random
import tempfile
from pathlib import Path

from components.eval.stored.score import score_predictions
from omnistage.files import human_bytes, write_jsonl
from tests.browser import browser

RECORDS = 5000
MODELS = ("one", "two", "three")
_OPENED = "performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"
_SEARCH = """(async () => {
  const began = performance.now();
  const [form, count] = ["filter", "shown"].map((id) => document.getElementById(id));
  count.textContent = "";
  form.elements.words.value = "record 4321";
  form.dispatchEvent(new Event("input", {bubbles: true}));
  while (!count.textContent) await new Promise((done) => setTimeout(done, 5));
  return [(performance.now() - began) / 1000, count.textContent];
})()"""


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in MODELS:
            rows = (_prediction(model, number) for number in range(RECORDS))
            write_jsonl(folder / f"{model}.jsonl", rows)
        files = [folder / f"{model}.jsonl" for model in MODELS]
        score_predictions(files, folder / "report", task="choice")
        page = folder / "report" / "report.html"
        size = page.stat().st_size
        opened, searched, shown = [], [], ""
        with browser(folder / "profile") as tab:
            for _ in range(3):
                tab.open(page)
                # The load event itself ends after the protocol has told of it.
                tab.run("new Promise((done) => setTimeout(done, 50))")
                opened.append(tab.run(_OPENED))
                seconds, shown = tab.run(_SEARCH)
                searched.append(seconds)
    print(f"{RECORDS:,} examples of {len(MODELS)} models in {human_bytes(size)}   (bar 15 MB)")
    print(f"opens in      {min(opened):5.2f} s   (bar 2)")
    print(f"first search  {min(searched):5.2f} s, {shown} shown")


def _prediction(model: str, number: int) -> dict[str, str]:
    chance = random.Random(f"{model} {number}")
    words = " ".join(f"{chance.getrandbits(20):x}" for _ in range(110))
    said, gold = chance.choice("ABCD"), "ABCD"[number % 4]
    text = f"<think>In record {number}: {words}</think><answer>{said}</answer>"
    return {"id": str(number), "text": text, "solution": gold}


if __name__ == "__main__":
    main()
