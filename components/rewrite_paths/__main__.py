"""``python -m components.rewrite_paths --spec spec.json``."""

from components.rewrite_paths.stage import STAGE
from omnistage.task.program import main

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
