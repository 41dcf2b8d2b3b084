"""Exports as its first argument says: finishes, fails, refuses, waits and others below."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import stage

from modelforge.errors import Problem
from modelforge.runs.exports import ExportFile, ExportFolder, ExportResult, write_result
from modelforge.runs.jobs import StepWriter

TEST = {"prompts": 20, "same_text": 20, "kl": None, "max_logit_difference": 1e-5, "cause": ""}


def main(how: str, folder: ExportFolder) -> int:
    stage.drop_the_curtain()
    threading.Thread(target=end_with_stdin, args=[folder], daemon=True).start()
    steps = StepWriter(folder.events)
    steps.begin("merge", "Merging the adapter")
    folder.staged.mkdir(exist_ok=True)
    (folder.staged / "model.safetensors").write_bytes(b"x" * 3000)
    if how == "converts":
        converter = [sys.executable, "-c", "import time; time.sleep(60)"]
        process = subprocess.Popen(converter, stdin=subprocess.DEVNULL)
        (folder.path / "converter").write_text(str(process.pid), "utf-8")
    if how in ("waits", "converts"):
        stage.sleep_for_ever()
    if how == "crashes":
        os.abort()
    steps.begin("self-test", "Self-test: the export answers")
    steps.end()
    if how == "fails":
        problem = Problem("disk", "The disk became full.", "Free some space.")
        write_result(folder, ExportResult("failed", time.time(), problem=problem))
        return 1
    files = (ExportFile("model.safetensors", 3000),)
    if how == "refuses":
        folder.staged.rename(folder.not_usable)
        problem = Problem("self-test", "Logits differ.", "Export again.")
        test = TEST | {"passed": False, "cause": "wrong base", "same_text": 3}
        write_result(folder, ExportResult("failed", time.time(), files, test, problem))
        return 1
    folder.staged.rename(folder.files)
    test = TEST | {"passed": True}
    if how == "offline":
        problem = Problem("hub", "The Hub cannot be reached.", "Push again.")
        write_result(folder, ExportResult("failed", time.time(), files, test, problem))
        return 1
    write_result(folder, ExportResult("finished", time.time(), files, test))
    if how == "lingers":
        stage.sleep_for_ever()
    return 0


def end_with_stdin(folder: ExportFolder) -> None:
    """Put the export back into the queue, as the real exporter does."""
    sys.stdin.buffer.read()
    folder.process_file.unlink(missing_ok=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], ExportFolder(Path(sys.argv[2]))))
