"""``python -m components.sft --spec spec.json``."""

from components.sft.stage import STAGE
from omnistage.task import main

raise SystemExit(main(STAGE))
