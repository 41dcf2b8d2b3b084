"""A chat process, and a tiny model of random weights for it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

RECEIVE_S = 120


class ChatProcess:
    """The chat process as the server uses it: JSON lines in and out, stderr in a log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "modelforge.chat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                encoding="utf-8",
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)

    def send(self, message: object) -> None:
        line = message if isinstance(message, str) else json.dumps(message)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict:
        try:
            return json.loads(self._lines.get(timeout=RECEIVE_S), parse_constant=pytest.fail)
        except queue.Empty:
            pytest.fail(f"No message within the limit; the log: {self.log.read_text()[-2000:]}")

    def until(self, *kinds: str) -> list[dict]:
        messages: list[dict] = []
        while not messages or not set(kinds) & set(messages[-1]):
            messages.append(self.receive())
        return messages

    def load(self, model: Path, adapter: Path | None = None) -> list[dict]:
        request = {"model_path": str(model), "adapter": adapter and str(adapter), "device": "cpu"}
        self.send({"load": request})
        return self.until("loaded", "error")

    def ask(self, question: str, **options: object) -> tuple[str, dict]:
        self.send({"ask": {"messages": [{"role": "user", "content": question}], **options}})
        messages = self.until("done", "error")
        return "".join(each.get("text", "") for each in messages), messages[-1]

    def close(self) -> int:
        self.process.stdin.close()
        deadline = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        code = self.process.poll()
        if code is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        return code


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A Llama of two layers and random weights; its tokenizer has bytes and ChatML tokens."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_model")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(["who are you"], vocab_size=300, show_progress=False)
    bpe.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapter(tiny_model, tmp_path_factory):
    """A LoRA adapter of random weights, strong enough to change the replies."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(8)
    lora = LoraConfig(
        r=8,
        lora_alpha=64,
        target_modules=["q_proj", "v_proj", "down_proj"],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), lora).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def second_adapter(tiny_model, tmp_path_factory):
    """Another LoRA adapter of random weights, of other modules and another rank."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("second_adapter")
    torch.manual_seed(9)
    lora = LoraConfig(
        r=4,
        lora_alpha=64,
        target_modules=["k_proj", "up_proj"],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), lora).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    process = ChatProcess(tmp_path_factory.mktemp("chat") / "chat.log")
    yield process
    process.close()


@pytest.fixture
def new_chat(tmp_path):
    process = ChatProcess(tmp_path / "chat.log")
    yield process
    process.close()
