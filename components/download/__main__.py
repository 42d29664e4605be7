"""``python -m components.download --spec spec.json``."""

from components.download.stage import STAGE
from omnistage.task import main

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
