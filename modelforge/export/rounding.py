"""The trained model in the 16 bits of its export: what a merged model can be at best.

Training changes weights by less than the last bit of bfloat16, so a merge into it moves the logits
much further than a wrong file may. A merged export is compared with the trained model rounded in
the same way, and how far rounding alone has moved it is reported.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper

from modelforge.export.answers import Answers, choices_file, logits_file
from modelforge.export.merge import merged_weight
from modelforge.export.trained_answers import logits


def round_answers(model: Any, answers: Answers) -> Answers:
    """Merge the adapter of a model in place, in 16 bits, and replace the logits of the answers.

    Weights of 32 bits are not rounded; then nothing is done.
    """
    if model.dtype == torch.float32:
        return answers
    merge_in_place(model)
    largest = 0.0
    for place, known in enumerate(answers.prompts):
        before = answers.logits(place)
        after = logits(model, known.prompt + known.answer, len(known.answer) + 1)
        largest = max(largest, float(np.abs(after - before).max()))
        np.save(choices_file(answers.folder, place), before.argmax(axis=1))
        del before  # the file is mapped into memory
        np.save(logits_file(answers.folder, place), after)
    return replace(answers, rounding=largest)


def merge_in_place(model: Any) -> None:
    """Merge the adapter of a PEFT model in float32, and round to the precision of each weight."""
    adapter = model.active_adapter
    for module in list(model.modules()):
        if isinstance(module, ModulesToSaveWrapper):
            dtypes = {name: own.dtype for name, own in module.original_module.named_parameters()}
            for name, own in module.modules_to_save[adapter].named_parameters():
                own.data = own.data.to(dtypes.get(name, own.dtype)).to(own.dtype)
        elif isinstance(module, BaseTunerLayer):
            layer = module.get_base_layer()
            merged = merged_weight(module, layer.weight, adapter).to(layer.weight.dtype)
            layer.weight = torch.nn.Parameter(merged, requires_grad=False)
            module.merged_adapters.append(adapter)
