"""``python -m components.mix --spec spec.json``."""

from components.mix.stage import STAGE
from omnistage.task.program import main

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
