"""Train with TRL and its default settings.

The adapter is PEFT's LoraConfig with r 16, alpha 32 and all linear layers, without dropout.
Learning rate and number of steps are given, and the chat template is the one of the app, so that
the same tokens are trained.

python bench/bare_defaults.py MODEL CHATS.jsonl TEMPLATE STEPS LEARNING_RATE OUT.json ADAPTER
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time


def main() -> None:
    """Train, save the adapter, and write {"steps": [{"t", "tokens", "loss"}], "cpu_s"}."""
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model, data, template, steps, learning_rate, out, adapter = sys.argv[1:8]
    logged: list[dict[str, float]] = []

    class Clock(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
            if logs and "loss" in logs:
                cpu = sum(os.times()[:2])
                logged.append(
                    {
                        "t": time.time(),
                        "tokens": logs["num_tokens"],
                        "loss": logs["loss"],
                        "cpu": cpu,
                    }
                )

    tokenizer = AutoTokenizer.from_pretrained(model)
    with open(template, encoding="utf-8") as file:  # noqa: PTH123 - plain, as in a user's script
        tokenizer.chat_template = file.read()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            processing_class=tokenizer,
            train_dataset=load_dataset("json", data_files=data, split="train"),
            peft_config=LoraConfig(
                r=16,
                lora_alpha=32,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            args=SFTConfig(
                output_dir=folder,
                max_steps=int(steps),
                learning_rate=float(learning_rate),
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                data_seed=42,  # equal to the seed, for the order of rows of the app
                use_cpu=not torch.cuda.is_available(),
            ),
            callbacks=[Clock()],
        )
        trainer.train()
        trainer.model.save_pretrained(adapter)
    with open(out, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump({"steps": logged}, file)


if __name__ == "__main__":
    main()
