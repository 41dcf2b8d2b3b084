"""A plain TRL script with the same settings as the app: bare SETTINGS OUT."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Train, and write the seconds of each step, all tokens and the peak of reserved memory."""
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTTrainer

    values, out = json.loads(sys.argv[1]), Path(sys.argv[2])
    on_gpu = values["hardware.device"] == "cuda"
    seconds: list[float] = []
    tokens: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
            _wait(torch, on_gpu)
            seconds.append(-time.perf_counter())

        def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
            _wait(torch, on_gpu)
            seconds[-1] += time.perf_counter()

        def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
            tokens.append((logs or {}).get("num_tokens", 0))

    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=_load(torch, values, on_gpu),
            processing_class=AutoTokenizer.from_pretrained(values["model_name"]),
            train_dataset=load_dataset("json", data_files=values["dataset"], split="train"),
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
            args=_arguments(values, folder, on_gpu),
            callbacks=[Clock()],
        )
        trainer.train()
    peak = torch.cuda.max_memory_reserved() / 2**30 if on_gpu else 0.0
    figures = {"seconds": seconds, "tokens": max(tokens), "peak_gib": peak}
    out.write_text(json.dumps(figures), encoding="utf-8")


def _load(torch: Any, values: dict[str, Any], on_gpu: bool) -> Any:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = torch.bfloat16 if on_gpu else torch.float32
    options: dict[str, Any] = {"device_map": {"": 0}} if on_gpu else {}
    if values["use_4bit"]:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    return AutoModelForCausalLM.from_pretrained(values["model_name"], dtype=dtype, **options)


def _arguments(values: dict[str, Any], folder: str, on_gpu: bool) -> Any:
    from trl import SFTConfig

    return SFTConfig(
        output_dir=folder,
        max_steps=values["max_steps"],
        per_device_train_batch_size=values["per_device_train_batch_size"],
        gradient_checkpointing=values["gradient_checkpointing"],
        gradient_checkpointing_kwargs={"use_reentrant": False},
        learning_rate=values["learning_rate"],
        optim=values["optim"],
        max_length=values["max_seq_length"],
        logging_steps=1,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        save_strategy="no",
        report_to="none",
    )


def _wait(torch: Any, on_gpu: bool) -> None:
    if on_gpu:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
