"""Plays the part that the run's name asks for: "floods LINES=9" is floods.py with nine lines."""

import json
import os
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
name = json.loads((Path(sys.argv[1]) / "config.json").read_text(encoding="utf-8"))["name"]
part, *settings = name.split()
for setting in settings:
    label, _, value = setting.partition("=")
    os.environ[f"MODELFORGE_ACTOR_{label}"] = value
sys.path.insert(0, str(HERE))
runpy.run_path(str(HERE / f"{part}.py"), run_name="__main__")
