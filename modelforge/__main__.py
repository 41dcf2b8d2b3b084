"""Run the command line with `python -m modelforge`."""

from modelforge.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
