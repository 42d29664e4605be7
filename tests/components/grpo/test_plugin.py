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


@pytest.mark.pipeline
def test_ms_swift_finds_every_reward_under_its_curves_name():
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(list(METRIC_NAMES))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [METRIC_NAMES, [0.2, 0.0]]
