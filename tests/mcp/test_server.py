"""The tools and resources in this process, with stand-in workers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from modelforge.forge import Forge
from modelforge.paths import Home
from tests.mcp.conftest import Tools
from tests.services.test_runs import ACTORS

mcp = pytest.importorskip("mcp")
pytestmark = pytest.mark.filterwarnings("default")

PATIENCE_S = 60.0


def play(actor: str) -> list[str]:
    return [sys.executable, str(ACTORS / f"{actor}.py")]


@pytest.fixture
def served(tmp_path: Path):
    """Return a function that runs a coroutine function with the tools of a new server."""
    from modelforge.mcp.server import create_server

    def run(steps: Callable[[Tools], Coroutine[Any, Any, None]], worker: str = "finishes") -> None:
        forge = Forge(
            Home(tmp_path / "home"),
            worker=play(worker),
            warm_worker=[sys.executable, "-c", ""],
            chat_process=play("talks"),
        )

        async def connected() -> None:
            async with mcp.Client(create_server(forge)) as client:
                with anyio.fail_after(PATIENCE_S):
                    await steps(Tools(client))

        try:
            anyio.run(connected)
        finally:
            for view in forge.runs.views():
                forge.runs.stop(view.id)
            forge.close()

    return run


@pytest.fixture
def settings(model, data):
    return {"model_name": str(model), "dataset": str(data), "use_4bit": False}


def test_every_tool_is_described_and_only_some_destroy(served):
    async def steps(tools: Tools) -> None:
        listed = (await tools.client.list_tools()).tools
        assert all(tool.description and tool.output_schema for tool in listed)
        destroying = {tool.name for tool in listed if tool.annotations.destructive_hint}
        assert destroying == {"stop_run", "delete_run"}
        for tool in listed:
            has_confirm = "confirm" in tool.input_schema["properties"]
            assert has_confirm == (tool.name in destroying | {"export_run"})

    served(steps)


def test_data_is_looked_at_and_checked(served, data):
    async def steps(tools: Tools) -> None:
        seen = await tools.call("look_at_data", dataset=str(data), rows=2)
        assert seen["mapping"]["fields"] == {"prompt": "input", "answer": "output"}
        assert len(seen["rows"]) == 2
        checked = await tools.call("check_data", dataset=str(data))
        assert checked["trainable"] is True
        assert any(each["name"] == "sample:captain" for each in await tools.call("list_datasets"))
        absent = json.loads(
            (await tools.refusal("check_data", dataset="no.jsonl")).split(": ", 1)[1]
        )
        assert absent["problems"][0]["remedy"]

    served(steps)


def test_a_run_starts_with_the_hash_of_the_current_plan_alone(served, settings):
    async def steps(tools: Tools) -> None:
        plan = await tools.call("plan_run", settings=settings)
        assert plan["ready"] is True
        other = settings | {"lora_r": 4}
        stale = await tools.refusal("start_run", settings=other, plan_hash=plan["plan_hash"])
        assert "The plan has changed" in stale
        assert await tools.call("list_runs") == []
        started = await tools.call("start_run", settings=settings, plan_hash=plan["plan_hash"])
        followed = await tools.call("follow_run", run=started["run"], wait_seconds=30)
        assert (followed["state"], followed["step"]) == ("finished", 3)
        kinds = [event["kind"] for event in followed["events"]]
        assert kinds[-1] == "finished"
        again = await tools.call("follow_run", run=started["run"], after=followed["last"])
        assert again["events"] == []

    served(steps)


def test_a_plan_that_is_blocked_says_why_and_has_problems(served, settings):
    async def steps(tools: Tools) -> None:
        blocked = await tools.call("plan_run", settings=settings | {"strategy": "dpo"})
        assert blocked["ready"] is False
        assert "wrong-kind" in [each["code"] for each in blocked["findings"]]
        wrong = await tools.call("plan_run", settings=settings | {"lora_rank": 4})
        assert (wrong["plan_hash"], wrong["problems"][0]["where"]) == ("", "lora_rank")

    served(steps)


def test_what_destroys_needs_a_confirmation(served, settings):
    async def steps(tools: Tools) -> None:
        plan = await tools.call("plan_run", settings=settings)
        started = {"settings": settings, "plan_hash": plan["plan_hash"], "queue": False}
        run = (await tools.call("start_run", **started))["run"]
        assert "confirm=true" in await tools.refusal("stop_run", run=run)
        assert "confirm=true" in await tools.refusal("delete_run", run=run)
        assert "confirm=true" in await tools.refusal(
            "export_run", run=run, format="hub", repository="me/model"
        )
        assert (await tools.call("follow_run", run=run))["state"] in ("starting", "running")
        await tools.call("stop_run", run=run, keep=False, confirm=True)
        assert (await tools.call("follow_run", run=run, wait_seconds=30))["state"] == "stopped"
        await tools.call("resume_run", run=run)
        await tools.call("stop_run", run=run, confirm=True)
        await tools.call("follow_run", run=run, wait_seconds=30)
        await tools.call("delete_run", run=run, confirm=True)
        assert await tools.call("list_runs") == []

    served(steps, "obeys")


def test_runs_settings_and_pages_are_resources(served, settings):
    async def steps(tools: Tools) -> None:
        plan = await tools.call("plan_run", settings=settings)
        started = {"settings": settings, "plan_hash": plan["plan_hash"]}
        run = (await tools.call("start_run", **started))["run"]
        await tools.call("follow_run", run=run, wait_seconds=30)
        (listed,) = json.loads(await tools.text("modelforge://runs"))
        assert (listed["id"], listed["state"]) == (run, "finished")
        details = json.loads(await tools.text(f"modelforge://runs/{run}"))
        assert details["config"]["model_name"] == settings["model_name"]
        await tools.text(f"modelforge://runs/{run}/log")
        assert "lora_r" in json.loads(await tools.text("modelforge://settings"))["properties"]
        assert json.loads(await tools.text("modelforge://machine"))["ram_total_gib"] > 0
        (page,) = [
            each for each in json.loads(await tools.text("modelforge://docs")) if "formats" in each
        ]
        assert (await tools.text(page)).startswith("# ")
        for absent in (
            "modelforge://docs/../pyproject",
            "modelforge://docs/x",
            "modelforge://runs/x",
        ):
            with pytest.raises(mcp.MCPError):
                await tools.text(absent)

    served(steps)


def test_two_runs_are_compared(served, settings):
    async def steps(tools: Tools) -> None:
        runs = []
        for rank in (4, 8):
            with_rank = settings | {"lora_r": rank}
            plan = await tools.call("plan_run", settings=with_rank)
            made = await tools.call("start_run", settings=with_rank, plan_hash=plan["plan_hash"])
            await tools.call("follow_run", run=made["run"], wait_seconds=30)
            runs.append(made["run"])
        compared = await tools.call("compare_runs", runs=runs)
        (row,) = [each for each in compared["settings"] if each["name"] == "lora_r"]
        assert row["values"] == [4, 8]

    served(steps)


def test_an_unexpected_error_is_in_the_log_and_not_in_the_answer(served, tmp_path, monkeypatch):
    def fail(_service):
        raise ZeroDivisionError("a secret")

    from modelforge.services.datasets import DatasetService

    monkeypatch.setattr(DatasetService, "available", fail)

    async def steps(tools: Tools) -> None:
        text = await tools.refusal("list_datasets")
        assert "ZeroDivisionError" in text
        assert "a secret" not in text

    served(steps)
    assert "a secret" in (tmp_path / "home" / "logs" / "mcp.log").read_text("utf-8")
