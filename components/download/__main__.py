"""``python -m components.download --spec spec.json``."""

from components.download.stage import STAGE
from omnistage.task.program import main

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
