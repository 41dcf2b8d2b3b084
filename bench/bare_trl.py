"""A plain TRL script with the same settings as the app, timed from its first line.

python bench/bare_trl.py MODEL DATA.jsonl STEPS OUT.json
"""

import time

STARTED = time.time()

import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402


def main() -> None:
    """Train and write {"born", "steps": [{"t", "tokens"}]}."""
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model_path, data, steps, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    logged: list[dict[str, float]] = []

    class Clock(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
            if logs and "loss" in logs:
                logged.append(
                    {"t": time.time(), "tokens": logs["num_tokens"], "loss": logs["loss"]}
                )

    rows = load_dataset("json", data_files=data, split="train")
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(model_path),
            train_dataset=rows,
            peft_config=LoraConfig(
                r=16,
                lora_alpha=32,
                lora_dropout=0.1,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            args=SFTConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=4,
                gradient_accumulation_steps=1,
                gradient_checkpointing=False,
                learning_rate=5e-4,
                lr_scheduler_type="cosine",
                warmup_steps=0.03,
                weight_decay=0.001,
                max_grad_norm=0.3,
                optim="adamw_torch",
                max_length=128,
                logging_steps=1,
                bf16=False,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                seed=42,
            ),
            callbacks=[Clock()],
        )
        trainer.train()
    with open(out, "w", encoding="utf-8") as file:  # noqa: PTH123 - plain, as in a user's script
        json.dump({"born": STARTED, "steps": logged}, file)


if __name__ == "__main__":
    main()
