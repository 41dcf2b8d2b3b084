"""The real server over stand-in workers: `serving.py HOME PORT`; port 0 takes a free one."""

import socket
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ACTORS = ROOT / "tests" / "actors"
sys.path.insert(0, str(ROOT))


def main() -> None:
    import uvicorn

    from modelforge.forge import Forge
    from modelforge.home import Home
    from ui.app import guarded

    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", int(sys.argv[2])))
    place.listen(64)
    forge = Forge(
        Home(Path(sys.argv[1])),
        worker=[sys.executable, str(ACTORS / "trains.py")],
        # No spare: it would be a real worker. Its absence changes nothing but the wait.
        spare=[sys.executable, "-c", ""],
        talker=[sys.executable, str(ACTORS / "talks.py")],
    )
    threading.Thread(target=tend, args=(forge,), daemon=True).start()
    print(f"http://127.0.0.1:{place.getsockname()[1]}", flush=True)
    config = uvicorn.Config(guarded(forge), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[place])
    forge.close()


def tend(forge) -> None:
    """Do what the real server does every few seconds, so that tests need not wait for it."""
    while True:
        time.sleep(0.3)
        forge.tend()


main()
