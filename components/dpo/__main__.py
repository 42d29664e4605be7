"""``python -m components.dpo --spec spec.json``."""

from components.dpo.stage import STAGE
from omnistage.task.program import main

raise SystemExit(main(STAGE))
