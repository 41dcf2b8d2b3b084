"""`modelforge mcp` as a process, scripted with the client of the official SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tests.mcp.conftest import Tools

mcp = pytest.importorskip("mcp")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parents[2]
LIMIT_S = 1500.0
SHORT = {"max_steps": 2, "eval_split": 0.25, "evaluation.samples": 0, "use_4bit": False}


def connected(home: Path) -> mcp.Client:
    command = ["-m", "modelforge", "mcp", "--home", str(home)]
    return mcp.Client(
        mcp.StdioServerParameters(
            command=sys.executable, args=command, env=dict(os.environ), cwd=ROOT
        )
    )


async def until_over(tools: Tools, tool: str, **arguments) -> dict:
    """Follow something until it is over, as a program would."""
    while True:
        view = await tools.call(tool, **arguments, wait_seconds=60)
        if view["state"] in ("finished", "stopped", "failed", "lost"):
            assert view["state"] == "finished", view
            return view


def test_the_process_ends_with_its_client_and_prints_nothing_else(tmp_path):
    async def steps() -> None:
        async with connected(tmp_path / "home") as client:
            with anyio.fail_after(120):
                assert json.loads(await Tools(client).text("modelforge://runs")) == []
                assert client.server_info.name == "modelforge"

    anyio.run(steps)
    done = subprocess.run(
        [sys.executable, "-m", "modelforge", "mcp", "--home", str(tmp_path / "home")],
        cwd=ROOT,
        input="",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_a_program_looks_tries_trains_compares_exports_and_chats(home_with_starter):
    async def steps(tools: Tools) -> None:
        seen = await tools.call("look_at_data", dataset="sample:captain", rows=1)
        assert seen["rows"][0]["reads"]
        assert (await tools.call("check_data", dataset="sample:captain"))["trainable"] is True
        runs = []
        for rank in (4, 8):
            settings = {
                **SHORT, "model_name": "starter", "dataset": "sample:captain", "lora_r": rank
            }  # fmt: skip
            if rank == 4:
                trial = await tools.call("start_trial_run", settings=settings)
                over = await until_over(tools, "follow_trial_run", trial_run=trial["id"])
                assert over["trial_run"]["peak_gib"] > 0
            plan = await tools.call("plan_run", settings=settings)
            assert plan["memory_basis"] == ("trial_run" if rank == 4 else "formula")
            run = await tools.call("start_run", settings=settings, plan_hash=plan["plan_hash"])
            view = await until_over(tools, "follow_run", run=run["run"])
            assert (view["step"], bool(view["verdict"])) == (2, True)
            runs.append(run["run"])
        compared = await tools.call("compare_runs", runs=runs)
        assert "lora_r" in [row["name"] for row in compared["settings"]]
        export = await tools.call("export_run", run=runs[0], format="adapter")
        files = await until_over(tools, "follow_export", export=export["id"])
        assert list(Path(files["path"]).rglob("adapter_model.safetensors"))
        made = await tools.call("evaluate_run", run=runs[0], rows=2)
        report = await until_over(tools, "follow_evaluation", evaluation=made["id"])
        assert report["report"]
        asked = {"model": runs[0], "message": "Hello", "max_new_tokens": 8}
        # The process of the evaluation may be ending just now.
        while (await tools.client.call_tool("chat", asked)).is_error:
            await anyio.sleep(1)
        assert (await tools.call("chat", **asked))["answer"]

    async def connect() -> None:
        async with connected(home_with_starter) as client:
            with anyio.fail_after(LIMIT_S):
                await steps(Tools(client))

    anyio.run(connect)
