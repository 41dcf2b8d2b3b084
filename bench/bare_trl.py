"""A plain TRL script, timed from its first line.

The chat template is the one of the app, so that the same tokens are trained. SETTINGS is JSON:

    seed        of the adapter's initial weights, dropout and the order of rows
    args        arguments of SFTConfig; what is not given has TRL's default
    lora        arguments of LoraConfig
    dtype       of the weights
    loss_chunk  trained tokens per chunk of the loss, null for TRL's
    adapter     folder for the trained adapter, or null

python bench/bare_trl.py MODEL CHATS.jsonl TEMPLATE SETTINGS OUT.json
"""

import time

STARTED = time.time()

import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402


def main() -> None:
    """Train and write {"born", "steps": [{"t", "tokens", "loss"}]}."""
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, set_seed
    from trl import SFTConfig, SFTTrainer
    from trl.trainer import sft_trainer

    model, data, template, settings_json, out = sys.argv[1:6]
    settings = json.loads(settings_json)
    logged: list[dict[str, float]] = []

    class Clock(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
            if logs and "loss" in logs:
                logged.append(
                    {"t": time.time(), "tokens": logs["num_tokens"], "loss": logs["loss"]}
                )

    if settings["loss_chunk"]:
        sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE = settings["loss_chunk"]
    set_seed(settings["seed"])  # the trainer makes the adapter before it sets its seed
    tokenizer = AutoTokenizer.from_pretrained(model)
    with open(template, encoding="utf-8") as file:  # noqa: PTH123 - plain, as in a user's script
        tokenizer.chat_template = file.read()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(
                model, dtype=getattr(torch, settings["dtype"])
            ),
            processing_class=tokenizer,
            train_dataset=load_dataset("json", data_files=data, split="train"),
            peft_config=LoraConfig(
                target_modules="all-linear", task_type="CAUSAL_LM", **settings["lora"]
            ),
            args=SFTConfig(
                output_dir=folder,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                seed=settings["seed"],
                data_seed=settings["seed"],  # for the order of rows of the app
                use_cpu=not torch.cuda.is_available(),
                **settings["args"],
            ),
            callbacks=[Clock()],
        )
        trainer.train()
        if settings["adapter"]:
            trainer.model.save_pretrained(settings["adapter"])
    with open(out, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump({"born": STARTED, "steps": logged}, file)


if __name__ == "__main__":
    main()
