"""A spare that answers every probe with the probe itself; row 404 it cannot find."""

import json
import sys
from pathlib import Path


def say(what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


say({"ready": True})
for line in sys.stdin:
    probe = json.loads(line).get("probe")
    if probe is None:
        break
    number = probe["id"]
    say({"probe": number, "progress": {"done": 1, "total": 2}})
    if probe.get("row") == 404:
        error = {"where": "row", "what": "There is no row 404.", "remedy": "Ask for another."}
        say({"probe": number, "error": error})
    elif probe["kind"] in ("fetch", "fetch_remote"):
        target = Path(probe["target"])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"PAR1")
        say({"probe": number, "result": {"path": str(target)}})
    else:
        say({"probe": number, "result": {"rows": [], "totals": {"masked": 0}, "asked": probe}})
