"""Tools after a run: evaluate, export and chat."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelforge.config.sampling import MAX_NEW_TOKENS, Sampling
from modelforge.errors import Problem, RunError
from modelforge.forge import Forge
from modelforge.mcp.planning import Part, Wait, plain, wait_for
from modelforge.mcp.runs import Confirm, require
from modelforge.runs.evaluations import EvaluationRequest
from modelforge.runs.exports import ExportFormat, ExportRequest, Quantization
from modelforge.services.chats.requests import ChatAsk, Side

LONGEST_ANSWER = 256


class ResultTools:
    """The tools after a run. Each method is one; its docstring is the description."""

    def __init__(self, forge: Forge) -> None:
        self._forge = forge

    def evaluate_run(self, run: str, rows: Annotated[int, Field(ge=1)] = 100) -> Part:
        """Compare a run with its base model, and with a prompt with examples, on evaluation rows.

        It waits until the computer is free; `follow_evaluation` has the report.
        """
        return plain(self._forge.evaluations.start(EvaluationRequest(run, rows=rows)))

    def follow_evaluation(self, evaluation: str, wait_seconds: Wait = 60) -> Part:
        """Return the state of an evaluation, and its report once there is one."""
        view = wait_for(
            lambda: self._forge.evaluations.view(evaluation),
            lambda view: view.state.is_over,
            wait_seconds,
        )
        return plain(view)

    def export_run(
        self,
        run: str,
        format: ExportFormat,
        quantization: Quantization = "q4_k_m",
        repository: str = "",
        confirm: Confirm = False,
    ) -> Part:
        """Export the model of a run, and test the files beside it. `confirm` is needed for hub.

        hub uploads the adapter to the private `repository` (user/name) of the Hugging Face Hub.
        """
        if format == "hub":
            name = self._forge.runs.view(run).name
            require(confirm, f"The adapter of “{name}” is uploaded to {repository[:200]!r}.")
        request = ExportRequest(run, format, quantization=quantization, repository=repository)
        return plain(self._forge.exports.start(request))

    def follow_export(self, export: str, wait_seconds: Wait = 60) -> Part:
        """Return the state of an export, where its files are, and the result of their test."""
        view = wait_for(
            lambda: self._forge.exports.view(export),
            lambda view: view.state.is_over,
            wait_seconds,
        )
        return plain(view)

    def chat(
        self,
        model: str,
        message: str,
        system: str = "",
        base: bool = False,
        max_new_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)] = LONGEST_ANSWER,
    ) -> Part:
        """Ask the model of a run (its id) or a base model (its name); the answer is greedy.

        With `base` the base model of the run answers. The model stays loaded for some minutes.
        """
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": message})
        side = Side(model, not base, tuple(messages))
        text = ""
        done: Part = {}
        for part in self._forge.chat.ask_sides(
            ChatAsk((side,), Sampling(max_new_tokens=max_new_tokens))
        ):
            if "error" in part:
                raise RunError(Problem("chat", part["error"]["what"], part["error"]["remedy"]))
            text += part.get("text", "")
            done = part.get("done", done)
        return {"model": model, "answer": text, "done": done}
