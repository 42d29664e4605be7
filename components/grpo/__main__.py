"""``python -m components.grpo --spec spec.json``."""

from components.grpo.stage import STAGE
from omnistage.task import main

raise SystemExit(main(STAGE))
