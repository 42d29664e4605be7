"""``python -m components.download.model --spec spec.json``."""

from components.download.stage import MODEL_STAGE
from omnistage.task.program import main

if __name__ == "__main__":
    raise SystemExit(main(MODEL_STAGE))
