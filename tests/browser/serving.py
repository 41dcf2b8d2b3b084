"""The real server over stand-in workers: `serving.py HOME PORT`; port 0 takes a free one.

MODELFORGE_TEST_MACHINE describes the computer otherwise than it is, in JSON: what free memory it
has, `gpus`. MODELFORGE_TEST_WORKER names another stand-in worker; with MODELFORGE_TEST_REAL the
workers are real.
"""

import json
import os
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ACTORS = ROOT / "tests" / "actors"
sys.path.insert(0, str(ROOT))


def main() -> None:
    import uvicorn

    from modelforge.forge import Forge
    from modelforge.paths import Home
    from ui.app import create_guarded_app

    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", int(sys.argv[2])))
    place.listen(64)
    worker = os.environ.get("MODELFORGE_TEST_WORKER", "trains.py")
    actors = {
        "worker": [sys.executable, str(ACTORS / worker)],
        # No spare: it would be a real worker. Its absence changes nothing but the wait.
        "warm_worker": [sys.executable, "-c", ""],
        "chat_process": [sys.executable, str(ACTORS / "talks.py")],
        "exporter": [sys.executable, str(ACTORS / "exporter.py"), "finishes"],
        "evaluator": [sys.executable, str(ACTORS / "evaluator.py"), "finishes"],
    }
    played = {} if os.environ.get("MODELFORGE_TEST_REAL") else actors
    forge = Forge(Home(Path(sys.argv[1])), **played, probe=described)
    threading.Thread(target=tend, args=(forge,), daemon=True).start()
    print(f"http://127.0.0.1:{place.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        create_guarded_app(forge), log_level="warning", timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[place])
    forge.close()


def described(root: Path):
    """Return this computer with what a test says of it."""
    from modelforge.hardware.machine import probe_machine
    from modelforge.hardware.nvidia import Gpu

    facts = json.loads(os.environ.get("MODELFORGE_TEST_MACHINE", "{}"))
    if "gpus" in facts:
        facts["gpus"] = [
            Gpu(**{**gpu, "compute_capability": tuple(gpu["compute_capability"])})
            for gpu in facts["gpus"]
        ]
    return replace(probe_machine(root), **facts)


def tend(forge) -> None:
    """Do what the real server does every few seconds, so that tests need not wait for it."""
    while True:
        time.sleep(0.3)
        forge.tend()


main()
