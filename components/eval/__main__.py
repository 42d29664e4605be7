"""``python -m components.eval --spec spec.json``."""

from components.eval.stage import STAGE
from omnistage.task.program import main

raise SystemExit(main(STAGE))
