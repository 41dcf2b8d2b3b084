"""How a result is loaded: the lines of its model card, by form and head."""

from __future__ import annotations

from modelforge.config.plan.make import Plan
from modelforge.runs.portable.base_model import BaseModel

# Head of the trained model → end of the Auto class that loads it.
AUTO_CLASSES = {
    "causal": "ModelForCausalLM",
    "seq2seq": "ModelForSeq2SeqLM",
    "span": "ModelForQuestionAnswering",
    "reward": "ModelForSequenceClassification",
}
_FOLDER = "path/to/this/folder"
_ON_HUB = """\
from peft import AutoPeft{auto}
from transformers import AutoTokenizer

model = AutoPeft{auto}.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")"""
_ON_LOCAL = """\
from peft import PeftModel
from transformers import Auto{auto}, AutoTokenizer

base = Auto{auto}.from_pretrained("path/to/the/base/model")
model = PeftModel.from_pretrained(base, "{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")"""
_SCALED = """\
from peft import PeftModel
from transformers import AutoConfig, Auto{auto}, AutoTokenizer

# The adapter was trained with rope scaling, which the base model needs as well.
config = AutoConfig.from_pretrained("{base}")
{scaling}
base = Auto{auto}.from_pretrained("{base}", config=config)
model = PeftModel.from_pretrained(base, "{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")"""
_MERGED = """\
from transformers import Auto{auto}, AutoTokenizer

model = Auto{auto}.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")"""
_GGUF = "llama-server -m {file}"
_OLLAMA = "ollama create {file} -f Modelfile\nollama run {file}"
_MLX = """\
from mlx_lm import generate, load

model, tokenizer = load("{folder}")
messages = [{{"role": "user", "content": "Hello"}}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
print(generate(model, tokenizer, prompt=prompt))"""
_VLLM = "vllm serve path/to/this/folder"


def instructions(kind: str, plan: Plan, base: BaseModel, file: str) -> str:
    """Return how to load a result of a kind, as Markdown.

    `plan` is that of the run; `file` is the GGUF file, or the name of the model in Ollama.
    """
    head = plan.facts.head
    auto = AUTO_CLASSES.get(head, AUTO_CLASSES["causal"])
    if kind == "gguf":
        return _block("sh", _GGUF.format(file=file))
    if kind == "ollama":
        return _block("sh", _OLLAMA.format(file=file))
    if kind == "mlx":
        return _block("python", _MLX.format(folder=_FOLDER))
    if kind == "adapter" and plan.rope_type != "none":
        path = base.hub_id or "path/to/the/base/model"
        scaling = _scaling(plan)
        lines = _SCALED.format(auto=auto, base=path, folder=_FOLDER, scaling=scaling)
        return _block("python", lines)
    if kind == "adapter":
        lines = _ON_HUB if base.hub_id else _ON_LOCAL
        return _block("python", lines.format(auto=auto, folder=_FOLDER))
    text = _block("python", _MERGED.format(auto=auto, folder=_FOLDER))
    if head == "causal":
        text += f"\n\nOr serve it with vLLM:\n\n{_block('sh', _VLLM)}"
    return text


def _scaling(plan: Plan) -> str:
    """Return the lines that scale the rotary embeddings in `config`."""
    original = ""
    if plan.rope_type == "yarn":
        original = ', "original_max_position_embeddings": config.max_position_embeddings'
    values = f'"rope_type": "{plan.rope_type}", "factor": {plan.rope_factor}{original}'
    lines = f"config.rope_parameters |= {{{values}}}"
    if plan.rope_type != "dynamic":
        lines += f"\nconfig.max_position_embeddings = {plan.max_model_len}"
    return lines


def _block(language: str, lines: str) -> str:
    return f"```{language}\n{lines}\n```"
