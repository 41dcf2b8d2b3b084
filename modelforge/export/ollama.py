"""A model for Ollama: a GGUF file and a Modelfile with its chat template, system text and stops.

Where the program `ollama` is installed, the model is also registered with it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from modelforge.config.schema.config import TrainingConfig
from modelforge.data.sources.load import source_entries
from modelforge.errors import Problem, RunError
from modelforge.export import gguf_file
from modelforge.export.job import Job
from modelforge.export.ollama_template import Message, Render, derive, with_folding
from modelforge.modeling.generation_config import FILE, load_generation_config
from modelforge.modeling.tokenize.template import stop_ids_of
from modelforge.modeling.tokenize.template_limits import apply_template
from modelforge.runs.jobs import StepWriter

PROGRAM, MODELFILE = "ollama", "Modelfile"
ADDS_BOS = "tokenizer.ggml.add_bos_token"
MAX_NAMES = 50
ERROR_CHARS = 400
_PERCENT = re.compile(r"(\d{1,3})%")
# What a terminal would do with the output of `ollama create`.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_QUOTES = '"""'
_CLOSED = re.compile(r'"""[ \t]*[\r\n]')


def write(job: Job, target: Path, steps: StepWriter) -> None:
    """Write a GGUF file and a Modelfile into `target`.

    Raises:
        RunError: Ollama cannot express the chat template or the system text.
    """
    tokenizer = job.tokenizer()
    # Before the long part, so that a template that cannot be used is known at once.
    render = _renderer(tokenizer)
    template = derive(render)
    gguf_file.write(job, target, steps)
    path = target / gguf_file.file_name(job)
    if tokenizer.bos_token and adds_bos(path):
        template = template.without_bos(tokenizer.bos_token)
    text = modelfile(path.name, template.as_go(), stop_texts(job, tokenizer), system_text(job))
    notes = "".join(f"# {note}\n" for note in _notes(render, str(tokenizer.chat_template), text))
    (target / MODELFILE).write_text(f"{notes}{text}", encoding="utf-8")


def _notes(render: Render, source: str, text: str) -> Iterator[str]:
    """Yield in which ways Ollama's template is not quite the same."""
    if "strftime_now" in source:
        yield "The chat template writes the day's date; here it is that of the export."
    if "  Hello  " not in render([{"role": "user", "content": "  Hello  "}]):
        yield "The chat template removes spaces around a message; Ollama keeps them."
    if not all(mark.isprintable() or mark in "\r\n\t" for mark in text):
        yield "Ollama leaves out the characters of the system text that cannot be printed."


def publish(job: Job, folder: Path, steps: StepWriter) -> str:
    """Register the model with Ollama if it is installed; return the command that runs it, or "".

    Raises:
        RunError: Ollama refuses it.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        return ""
    name = free_name(program, model_name(job))
    steps.begin("create", f"Registering {name} with Ollama")
    create(program, name, folder, steps)
    return f"{PROGRAM} run {name}"


def free_name(program: str, name: str) -> str:
    """Return a name that no model of Ollama has; `ollama create` would replace the model."""
    names = [name, *(f"{name}-{number}" for number in range(2, MAX_NAMES + 1))]
    for each in names:
        shown = subprocess.run(
            [program, "show", each], capture_output=True, check=False, timeout=60
        )
        if shown.returncode:
            return each
    what = f"Ollama has {MAX_NAMES} models of the name {name}."
    raise RunError(Problem(PROGRAM, what, f"Remove some: ollama rm {name}"))


def create(program: str, name: str, folder: Path, steps: StepWriter) -> None:
    """Run `ollama create` in the folder of a Modelfile; raises RunError if it fails."""
    command = [program, "create", name, "-f", MODELFILE]
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        output = ""
        for output in _outputs(process):
            if percents := _PERCENT.findall(output):
                steps.share(min(int(percents[-1]), 100) / 100)
        code = process.wait()
    if code:
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
        what = f"`ollama create` failed: {last.strip()[:ERROR_CHARS] or f'exit code {code}'}"
        remedy = f"Start Ollama, then run `ollama create {name} -f {MODELFILE}` in {folder}."
        raise RunError(Problem(PROGRAM, what, remedy))


def _outputs(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Yield the newest output as it comes; a line is rewritten many times."""
    assert process.stdout is not None
    kept = b""
    while chunk := process.stdout.read1(4096):  # type: ignore[attr-defined]
        kept = (kept + chunk)[-8192:]
        yield _CONTROL.sub("", kept.decode("utf-8", "replace")).replace("\r", "\n")


def model_name(job: Job) -> str:
    """Return the name of the model in Ollama."""
    return job.record.stem.lower()


def modelfile(file: str, template: str, stops: Sequence[str], system: str | None) -> str:
    """Return a Modelfile; raises RunError for a text that it cannot hold."""
    parts = [f"FROM ./{file}", f"TEMPLATE {_quoted(template, 'chat template')}"]
    if system:
        parts.append(f"SYSTEM {_quoted(system, 'system text')}")
    parts += [f"PARAMETER stop {_quoted(stop, 'stop token')}" for stop in stops]
    return "\n".join(parts) + "\n"


def _quoted(text: str, what: str) -> str:
    """Return a text in three quotation marks, in which nothing can be escaped."""
    if _CLOSED.search(text):
        problem = f"A line of the {what} ends with three quotation marks, which end it in Ollama."
        raise RunError(Problem("ollama", problem, "Export a GGUF file instead."))
    return f"{_QUOTES}{text}{_QUOTES}"


def adds_bos(path: Path) -> bool:
    """Return whether llama.cpp puts the first token before a text of this file."""
    field = GGUFReader(path).get_field(ADDS_BOS)
    return bool(field.contents()) if field else False


def stop_texts(job: Job, tokenizer: Any) -> list[str]:
    """Return the tokens at which an answer ends, as text."""
    has_own = (job.run.output / FILE).is_file()
    source = job.run.output if has_own else job.source
    generation, _notes = load_generation_config(str(source), revision=None, local_files_only=True)
    ids = dict.fromkeys([tokenizer.eos_token_id, *stop_ids_of(generation)])
    texts = (tokenizer.convert_ids_to_tokens(token) for token in ids if token is not None)
    return [text for text in texts if isinstance(text, str) and text]


def system_text(job: Job) -> str | None:
    """Return the system text that every row was trained with, if there was one."""
    config = TrainingConfig.from_record(job.run_record["config"])
    if text := (config.model.system_prompt or "").strip():
        return text
    entries = source_entries(job.run_record["dataset"])
    texts = {(entry.get("mapping") or {}).get("system_prompt") or "" for entry in entries}
    return texts.pop() or None if len(texts) == 1 else None


def _renderer(tokenizer: Any) -> Render:
    def render(messages: Sequence[Message]) -> str:
        return apply_template(tokenizer, list(messages), add_generation_prompt=True)

    return with_folding(render)
