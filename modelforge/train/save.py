"""Save the result of a run atomically: adapter or model, tokenizer and model card."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from modelforge.modeling.errors import first_line
from modelforge.modeling.tokenizer_files import save_tokenizer
from modelforge.runs.portable.base_model import card_of, hub_id
from modelforge.runs.portable.model_card import hub_datasets
from modelforge.train.job import Job

# Code of a note about a file that could not be saved.
SIDE_FILE = "side-file-missing"
Note = Callable[[str, str], None]


def save(
    job: Job,
    trainer: Any,
    note: Note,
    *,
    steps: int,
    eval_loss: float | None = None,
    weights: dict[str, Any] | None = None,
) -> Path:
    """Write weights, tokenizer, generation config and model card; return the output folder.

    `note(code, text)` reports a file that cannot be written because of its contents. `steps` and
    `eval_loss` are shown in the model card. `weights` are those of a model that several GPUs
    divide, by name; None takes them from the model.
    """
    staged = job.run.output_staged
    write(job, trainer, note, staged, steps=steps, eval_loss=eval_loss, weights=weights)
    return publish(job)


def write(
    job: Job,
    trainer: Any,
    note: Note,
    staged: Path,
    *,
    steps: int,
    eval_loss: float | None,
    weights: dict[str, Any] | None = None,
) -> None:
    """Write what `save` does into a folder, which is emptied before."""
    model = trainer.result_model()
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    if hasattr(model, "peft_config"):
        # By default, PEFT looks up the base model on the Hub to decide this.
        model.save_pretrained(
            staged, safe_serialization=True, save_embedding_layers=False, state_dict=weights
        )
    else:
        model.config.use_cache = True  # off during training, but needed for generation
        model.save_pretrained(staged, safe_serialization=True, state_dict=weights)
    if trainer.adapter_init is not None:
        trainer.adapter_init.convert_saved_adapter(staged)
    # The weights are saved: what the model's other files hold must not lose them.
    if why := save_tokenizer(trainer.processing_class, staged, job.plan):
        note(SIDE_FILE, f"The tokenizer could not be saved: {why}")
    if getattr(model, "generation_config", None) is not None:
        with noting(note, "The generation config"):
            model.generation_config.save_pretrained(staged)
    with noting(note, "The model card"):
        card = model_card(model, job, steps, eval_loss)
        card.text += privacy_text(trainer)
        card.save(staged / "README.md")


def publish(job: Job) -> Path:
    """Make the staged files the output of the run, and return its folder."""
    shutil.rmtree(job.run.output, ignore_errors=True)
    job.run.output_staged.rename(job.run.output)
    return job.run.output


@contextmanager
def noting(note: Note, name: str) -> Iterator[None]:
    """Report a file that cannot be written because of its contents; a full disk is an error."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  # a file of the base model may hold anything
        note(SIDE_FILE, f"{name} could not be saved: {first_line(error)}")


_BODY = """\
# {name}

{what}, trained {begin}with ModelForge for {steps:,} steps.

```python
from {library} import {auto}
from transformers import AutoTokenizer

model = {auto}.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
```
"""
# Suffix of the model class → pipeline tag of the Hub, and the Auto class that loads the model.
_HEADS = {
    "ForConditionalGeneration": ("summarization", "ModelForSeq2SeqLM"),
    "ForQuestionAnswering": ("question-answering", "ModelForQuestionAnswering"),
    "ForSequenceClassification": ("text-classification", "ModelForSequenceClassification"),
}
_CAUSAL = ("text-generation", "ModelForCausalLM")


def model_card(model: Any, job: Job, steps: int, eval_loss: float | None = None) -> ModelCard:
    """Return the model card of an adapter or a whole model, with metadata for the Hub."""
    is_adapter = hasattr(model, "peft_config")
    inner = model.get_base_model() if is_adapter else model
    suffix = next((name for name in _HEADS if type(inner).__name__.endswith(name)), None)
    # Multimodal decoders are called ForConditionalGeneration too.
    if suffix == "ForConditionalGeneration" and not inner.config.is_encoder_decoder:
        suffix = None
    return make_card(job, steps, eval_loss, is_adapter=is_adapter, suffix=suffix)


def make_card(
    job: Job,
    steps: int,
    eval_loss: float | None,
    *,
    is_adapter: bool,
    suffix: str | None = None,
) -> ModelCard:
    """Return a model card; `suffix` of the model class names its head, None a language model."""
    source, datasets = job.plan.model_path, hub_datasets(job.dataset)
    is_new = job.plan.is_from_nothing
    base_card = None if is_new else card_of(source, job.plan.model_revision)
    base_id = None if is_new else hub_id(source)
    base_id = base_id or (hub_id(base_card.base_model) if base_card else None)
    tag, auto = _HEADS[suffix] if suffix else _CAUSAL
    library = "peft" if is_adapter else "transformers"
    data = ModelCardData(
        base_model=base_id,
        base_model_relation=None if is_new else "adapter" if is_adapter else "finetune",
        datasets=datasets or None,
        eval_results=_eval_results(eval_loss, datasets, tag),
        library_name=library,
        license=base_card.license if base_card else None,
        license_name=base_card.license_name if base_card else None,
        license_link=base_card.license_link if base_card else None,
        model_name=job.name,
        pipeline_tag=tag,
        tags=["modelforge", *(["lora"] if is_adapter else []), job.plan.method],
    )
    body = _BODY.format(
        name=job.name,
        what=_described(f"`{base_id or Path(source).name}`", is_adapter=is_adapter, is_new=is_new),
        begin="from nothing " if is_new else "",
        steps=steps,
        library=library,
        auto=f"AutoPeft{auto}" if is_adapter else f"Auto{auto}",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


def _described(base: str, *, is_adapter: bool, is_new: bool) -> str:
    if is_new:
        return "A language model"
    return f"A LoRA adapter for {base}" if is_adapter else f"{base} with all weights"


def privacy_text(trainer: Any) -> str:
    """Return the paragraph of the model card about differential privacy; empty without it."""
    account = getattr(trainer, "privacy", None)
    if account is None:
        return ""
    return (
        "\n## Privacy\n\n"
        f"Trained with differential privacy (DP-SGD) for each of {account.rows:,} rows: epsilon "
        f"{account.epsilon:.3f} at delta {account.delta:.2g} by the Renyi accountant of Opacus; "
        f"noise multiplier {account.noise:.3g}, gradients of rows clipped to "
        f"{account.settings.max_grad_norm:g}, sample rate {account.sample_rate:.3g}, "
        f"{account.done:,} steps.\n"
    )


def _eval_results(loss: float | None, datasets: list[str], task: str) -> list[EvalResult] | None:
    if loss is None:
        return None
    dataset = datasets[0] if len(datasets) == 1 else None
    result = EvalResult(
        task_type=task,
        dataset_type=dataset or "custom",
        dataset_name=dataset or "Evaluation split",
        metric_type="loss",
        metric_name="Evaluation loss",
        metric_value=round(loss, 6),
    )
    return [result]
