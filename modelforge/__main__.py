"""Run the command line with `python -m modelforge`."""

try:
    from modelforge.cli.main import main

    CODE = main() if __name__ == "__main__" else 0
except KeyboardInterrupt:  # while modules are imported
    CODE = 130

if __name__ == "__main__":
    raise SystemExit(CODE)
