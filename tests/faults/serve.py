"""The real server over stand-in workers, who play what their run's name asks for."""

import socket
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main() -> None:
    import uvicorn

    from modelforge.forge import Forge
    from modelforge.paths import Home
    from ui.app import create_guarded_app

    home, port = sys.argv[1:3]
    place = socket.create_server(("127.0.0.1", int(port)), backlog=512)
    forge = Forge(
        Home(Path(home)),
        worker=[sys.executable, str(ROOT / "tests" / "actors" / "cast.py")],
        # No spare: it would be a real worker. Its absence changes nothing but the wait.
        warm_worker=[sys.executable, "-c", ""],
    )
    over = threading.Event()

    def tend() -> None:
        while not over.wait(1.0):
            forge.tend()

    threading.Thread(target=tend, daemon=True).start()
    config = uvicorn.Config(
        create_guarded_app(forge), log_level="warning", timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[place])
    over.set()
    forge.close()


main()
