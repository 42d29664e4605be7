"""``python -m components.grpo --spec spec.json``."""

from components.grpo.stage import STAGE
from omnistage.task.program import main

raise SystemExit(main(STAGE))
