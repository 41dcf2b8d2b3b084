"""Scale the rotary position embeddings of a model, so that it reads longer texts.

The scaling is part of the plan of a run. It is applied to the config of the base model wherever the
model is loaded for the run: training, chat, evaluation and export. A merged model and a model that
is trained in full have it in their config.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from modelforge.config.plan.make import Plan
from modelforge.errors import Problem
from modelforge.modeling.errors import WorkerError

# Layers that see the whole context, where a config has a rotary embedding per kind of layer.
FULL = "full_attention"
REMEDY = "Set the rope scaling (model.rope_type) to none, or choose another model."


def scaled_config(source: str | Path, plan: Plan, **arguments: Any) -> Any:
    """Return the config of a model with the scaling of the plan; None without scaling.

    `arguments` are those of `AutoConfig.from_pretrained`.

    Raises:
        WorkerError: `rope-unsupported` if the model has no rotary embedding, or a scaling of its
            own.
    """
    if plan.rope_type == "none":
        return None
    config = AutoConfig.from_pretrained(source, **{**arguments, "trust_remote_code": False})
    return scale_rope(config, plan)


def scale_rope(config: Any, plan: Plan) -> Any:
    """Change the config of a model to the scaling of the plan, and return it.

    A config that has this scaling already, as that of a trained model, stays as it is.

    Raises:
        WorkerError: As `scaled_config` does.
    """
    if plan.rope_type == "none":
        return config
    text = config.get_text_config()
    parameters = getattr(text, "rope_parameters", None)
    if not parameters:
        raise _unsupported(plan, "has no rotary position embeddings, so they cannot be scaled")
    own = parameters.get(FULL, parameters)
    kind = own.get("rope_type", "default")
    if (kind, own.get("factor")) == (plan.rope_type, plan.rope_factor):
        return config
    if kind != "default":
        raise _unsupported(plan, f"has a rope scaling of its own, {kind}")
    own |= {"rope_type": plan.rope_type, "factor": plan.rope_factor}
    if plan.rope_type == "yarn":
        own["original_max_position_embeddings"] = text.max_position_embeddings
    # The dynamic scaling begins where the original context length ends.
    if plan.rope_type != "dynamic":
        text.max_position_embeddings = plan.max_model_len
    return config


def context_length(config: Any) -> int | None:
    """Return the tokens that a model reads, with its rope scaling; None if it has no limit."""
    text = config.get_text_config(decoder=True)
    length = getattr(text, "max_position_embeddings", None)
    if not isinstance(length, int):
        return None
    parameters = getattr(text, "rope_parameters", None) or {}
    own = parameters.get(FULL, parameters)
    is_dynamic = own.get("rope_type") == "dynamic"
    return int(length * own["factor"]) if is_dynamic else length


def _unsupported(plan: Plan, what: str) -> WorkerError:
    text = f"{plan.model_path} {what}; the rope scaling is {plan.rope_type}."
    return WorkerError("rope-unsupported", Problem("model.rope_type", text, REMEDY))
