"""``python -m components.sft --spec spec.json``."""

from components.sft.stage import STAGE
from omnistage.task.program import main

raise SystemExit(main(STAGE))
