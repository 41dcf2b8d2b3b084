"""A tiny server: starts the run in argv[2] of the home in argv[1], and waits to be killed."""

import sys
from pathlib import Path

import stage

from modelforge.paths import Home
from modelforge.runs.process.supervisor import Supervisor
from modelforge.runs.store import Store

stage.drop_the_curtain()
home = Home(Path(sys.argv[1]))
actor = str(Path(__file__).with_name("obeys.py"))
Supervisor(home, command=[sys.executable, actor]).start(Store(home).get(sys.argv[2]))
print("started", flush=True)
stage.sleep_for_ever()
