"""The file handed to ms-swift as ``--external_plugins``, loaded by ms-swift itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omnistage.rewards import METRIC_NAMES

ROOT = Path(__file__).parents[3]

PROBE = """
import json, sys
from swift.rewards import orms
from swift.utils import import_external_file

import_external_file("components/grpo/plugin.py")
found = {name: orms[name](args=None) for name in json.loads(sys.argv[1])}
values = found["mm_format"](["{}", "x"], solution=[None, None], trainer_state=None)
print(json.dumps([{name: type(orm).__name__ for name, orm in found.items()}, values]))
"""


def run(*program: str) -> str:
    """Run a program with the trainer, without a GPU, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.pipeline
def test_ms_swift_finds_every_reward_under_its_curves_name():
    said = run("-c", PROBE, json.dumps(list(METRIC_NAMES)))
    assert json.loads(said.splitlines()[-1]) == [METRIC_NAMES, [0.2, 0.0]]


PLOTS = """
import sys
from swift.utils import import_external_file

import_external_file("omnistage/swift/plugins/plots.py")
import swift.pipelines.train.sft

swift.pipelines.train.sft.plot_images(sys.argv[1], "no/such/curves", ["train/loss"], 0.9)
"""


@pytest.mark.pipeline
def test_ms_swift_draws_no_pictures_of_curves(tmp_path: Path):
    run("-c", PLOTS, str(tmp_path / "images"))
    assert not (tmp_path / "images").exists()


@pytest.mark.pipeline
def test_a_completion_that_a_reward_leaves_out_is_left_out_of_the_advantages(tmp_path: Path):
    """Given a judge silent on some completions, when ms-swift makes advantages of its rewards."""
    said = run("-m", "tests.components.grpo.advantages", str(tmp_path))
    found = json.loads(said.splitlines()[-1])

    left_out = 2
    graded = [0, 1, 3]
    for how in ("none", "group", "rloo"):
        assert found[how][left_out] == pytest.approx(0.0, abs=1e-6), "neither praised nor blamed"
        assert found[how][4:] == pytest.approx([0.0] * 8, abs=1e-6), "nothing told apart there"
    # The others are compared with one another only, as if the silent one had not been sampled.
    assert [found["none"][i] for i in graded] == pytest.approx(found["without"])
    assert found["group"][1] > 0 > found["group"][0]
    # Of two rewards the other one alone decides for it: its length 0 beside a mean of 3/4.
    assert found["mixed"][left_out] == pytest.approx(-0.75)
    # Groups cut by the border between two processes are filled in as on one.
    assert found["two"] == found["whole"] == [1.0, 3.0, 2.0, 2.0, None, None]
    # What a reward read stands beside its values, as it gave them.
    assert found["table"]["values"][:4] == [1.0, 3.0, None, 2.0]
    assert found["table"]["judge"][:4] == ["1", "3", "", "2"]
    assert found["odd"] == ["\ud800 √5"]
