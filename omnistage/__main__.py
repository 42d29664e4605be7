"""``python -m omnistage`` is the command line."""

from omnistage.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
