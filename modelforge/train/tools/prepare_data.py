"""Write the rows of a run as its training reads them, for the script of `export-settings`.

`python -m modelforge.train.tools.prepare_data RECORD SCRIPT` reads the record of a run (settings,
plan and data, as in config.json) and writes files beside the script: token ids and labels as
Parquet for supervised training, text as JSON Lines for preferences.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelforge.config.exporters.script import prepared_files
from modelforge.config.plan.make import Plan
from modelforge.config.schema.config import TrainingConfig
from modelforge.errors import Problem, RunError
from modelforge.modeling.errors import WorkerError, explain
from modelforge.runs.atomic_files import read_json
from modelforge.train import environment


@dataclass(frozen=True)
class Prepared:
    """What was written.

    Attributes:
        files: Names of the files: training rows, and evaluation rows if there are some.
        end_token: What ends a completion in the text of preferences.
        other_tokens: Pairs whose text TRL divides into other tokens than the training here.
    """

    files: list[str]
    train_rows: int
    eval_rows: int
    end_token: str = ""
    other_tokens: int = 0

    def as_json(self) -> str:
        """Return it as one line."""
        return json.dumps(vars(self))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files and print what was written as JSON, or the reason of a failure as JSON."""
    parser = argparse.ArgumentParser(prog="python -m modelforge.train.tools.prepare_data")
    parser.add_argument("record", type=Path, help="the record of a run: config, plan, dataset")
    parser.add_argument("script", type=Path, help="the script that reads the files")
    options = parser.parse_args(argv)
    environment.configure_process()
    # Nothing is computed: a GPU may be in use by a run.
    environment.set_visible_gpu("cpu", 0)
    try:
        prepared = prepare(read_json(options.record), options.script)
    except Exception as error:  # noqa: BLE001  # the outermost frame: a library may raise anything
        failure = explain(error)
        sys.stdout.write(json.dumps({"what": failure.what, "remedy": failure.remedy}) + "\n")
        return 1
    sys.stdout.write(prepared.as_json() + "\n")
    return 0


def prepare(record: dict[str, Any], script: Path) -> Prepared:
    """Write the rows beside `script`.

    Raises:
        WorkerError: Nothing can be trained, or the method has no script.
        RunError: A file exists.
        DataError, OSError: The rows cannot be read, or the files cannot be written.
    """
    config = TrainingConfig.from_record(record["config"])
    plan = Plan.from_dict(record["plan"], record["config"])
    environment.go_offline_for_local_models(plan.model_path, None)
    writers = {"sft": _write_tokens, "dpo": _write_pairs}
    if plan.method not in writers:
        what = f"The script does not train {plan.facts.label}."
        raise WorkerError("not-here-yet", Problem("strategy", what, "Choose sft or dpo."))
    return writers[plan.method](record, config, plan, script)


def _template(config: TrainingConfig, plan: Plan) -> Any:
    from modelforge.modeling.providers.huggingface import load_tokenizer  # noqa: PLC0415
    from modelforge.modeling.tokenize.template import (  # noqa: PLC0415
        stop_ids_of,
        template_of_run,
    )

    tokenizer, generation = load_tokenizer(plan)
    return template_of_run(tokenizer, stop_ids_of(generation), config)


def _write_tokens(
    record: dict[str, Any], config: TrainingConfig, plan: Plan, script: Path
) -> Prepared:
    from modelforge.modeling.held_out import run_request  # noqa: PLC0415  (imports torch)
    from modelforge.modeling.tokenize.dataset import tokenize  # noqa: PLC0415

    tokenized = tokenize(run_request(record, plan), _template(config, plan), _silent)
    files, stems = [], prepared_files(script.name)
    for rows, stem in zip((tokenized.train, tokenized.eval), stems, strict=True):
        if rows is not None:
            target = _new(script.parent / f"{stem}.parquet")
            rows.to_parquet(str(target))
            files.append(target.name)
    evaluation = len(tokenized.eval) if tokenized.eval is not None else 0
    return Prepared(files, len(tokenized.train), evaluation)


def _write_pairs(
    record: dict[str, Any], config: TrainingConfig, plan: Plan, script: Path
) -> Prepared:
    from modelforge.modeling.held_out import run_request  # noqa: PLC0415  (imports torch)
    from modelforge.modeling.providers.huggingface import load_tokenizer  # noqa: PLC0415
    from modelforge.modeling.tokenize.preference import tokenize_pairs  # noqa: PLC0415

    template = _template(config, plan)
    # As the script opens it: a template of ours may add tokens.
    plain, _ = load_tokenizer(plan)
    tokenized = tokenize_pairs(run_request(record, plan), template, _silent)
    files, other, stems = [], 0, prepared_files(script.name)
    for rows, stem in zip((tokenized.train, tokenized.eval), stems, strict=True):
        if rows is None:
            continue
        target = _new(script.parent / f"{stem}.jsonl")
        with target.open("w", encoding="utf-8") as file:
            for line, is_same in _texts(rows, template.tokenizer, plain):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                other += not is_same
        files.append(target.name)
    evaluation = len(tokenized.eval) if tokenized.eval is not None else 0
    end = template.tokenizer.convert_ids_to_tokens(template.end_id)
    return Prepared(files, len(tokenized.train), evaluation, end, other)


def _texts(rows: Any, tokenizer: Any, plain: Any) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each pair as text, and whether the tokenizer `plain` makes the same tokens of it."""
    # What the tokenizer puts in front of every text by itself.
    added = plain("")["input_ids"]
    for row in rows:
        prompt = row["prompt_ids"]
        start = len(added) if added and prompt[: len(added)] == added else 0
        texts = {
            name: tokenizer.decode(ids, clean_up_tokenization_spaces=False)
            for name, ids in (
                ("prompt", prompt[start:]),
                ("chosen", row["chosen_ids"]),
                ("rejected", row["rejected_ids"]),
            )
        }
        yield texts | {"length": row["length"]}, _is_same(plain, texts, row)


def _is_same(tokenizer: Any, texts: dict[str, str], row: dict[str, Any]) -> bool:
    # As DPOTrainer does it: prompt and completion together.
    def ids(text: str) -> list[int]:
        return list(tokenizer(text)["input_ids"])

    return (
        all(
            ids(texts["prompt"] + texts[side]) == row["prompt_ids"] + row[f"{side}_ids"]
            for side in ("chosen", "rejected")
        )
        and ids(texts["prompt"]) == row["prompt_ids"]
    )


def _new(path: Path) -> Path:
    if path.exists():
        problem = Problem(str(path), "The file exists.", "Choose another name for the script.")
        raise RunError(problem)
    return path


def _silent(_done: int, _total: int) -> None:
    """Report no progress."""


if __name__ == "__main__":
    raise SystemExit(main())
