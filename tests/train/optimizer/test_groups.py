"""Groups of weights with rates of their own, and the optimizer with Muon in training."""

from __future__ import annotations

from typing import Any

import pytest

from modelforge.config.plan.make import PlanContext, make_plan
from tests.train.tiny_trainer import tiny_llama, trainer_config, trainer_for

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]

RATES = {
    "matrix_lr": 0.02,
    "embedding_lr": 0.3,
    "unembedding_lr": 0.004,
    "scalar_lr": 0.5,
    "adapter_lr": 0.03,
}


@pytest.fixture
def model() -> Any:
    return tiny_llama()


def rates_by_name(trainer: Any) -> dict[str, float]:
    """Return the learning rate of each trained weight by its name."""
    optimizer = trainer.create_optimizer()
    names = {id(weight): name for name, weight in trainer.model.named_parameters()}
    return {
        names[id(weight)]: group["lr"]
        for group in optimizer.param_groups
        for weight in group["params"]
    }


FULL = {"adapter": {"enabled": False}}


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_8bit", "muon", "normuon"])
def test_each_kind_of_weight_has_its_rate(model, tmp_path, optim):
    trainer = trainer_for(
        model, tmp_path, optim=optim, optimizer=RATES | {"adapter_lr": None}, **FULL
    )
    rates = rates_by_name(trainer)
    assert rates["model.embed_tokens.weight"] == 0.3
    assert rates["lm_head.weight"] == 0.004
    assert rates["model.layers.0.self_attn.q_proj.weight"] == 0.02
    assert rates["model.layers.0.mlp.down_proj.weight"] == 0.02
    assert rates["model.layers.0.self_attn.q_proj.bias"] == 0.5
    assert rates["model.norm.weight"] == 0.5
    assert len(rates) == len(list(model.parameters()))


def test_an_adapter_and_whole_modules_beside_it_have_their_rates(model, tmp_path):
    adapter = {"modules_to_save": "lm_head, norm"}
    trainer = trainer_for(model, tmp_path, optimizer=RATES, adapter=adapter)
    rates = rates_by_name(trainer)
    found = {name.rpartition("model.")[2]: rate for name, rate in rates.items()}
    assert found["layers.0.mlp.up_proj.lora_A.default.weight"] == 0.03
    assert found["layers.0.mlp.up_proj.lora_B.default.weight"] == 0.03
    assert found["norm.modules_to_save.default.weight"] == 0.5
    assert found["lm_head.modules_to_save.default.weight"] == 0.004
    # The reported rate is that of the first group.
    assert trainer.optimizer.param_groups[0]["lr"] == 0.03


def test_tied_embeddings_have_the_rate_of_the_head(tmp_path, tiny_model):
    from transformers import AutoModelForCausalLM

    from modelforge.train.optimizer.groups import kinds_of, trained_sizes

    tied = AutoModelForCausalLM.from_pretrained(tiny_model)
    kinds = kinds_of(tied)
    assert kinds["model.embed_tokens.weight"] == "head"
    assert "lm_head.weight" not in kinds
    sizes = trained_sizes(tied)
    table = 49152 * 32
    assert (sizes.largest_other, sizes.largest_matrix) == (table, 64 * 32)
    assert sizes.total == sum(weight.numel() for weight in tied.parameters())
    assert sizes.others == table + 5 * 32  # and the norms


def test_without_a_rate_for_a_group_the_optimizer_is_that_of_transformers(model, tmp_path):
    trainer = trainer_for(model, tmp_path, optim="adamw_torch", **FULL)
    optimizer = trainer.create_optimizer()
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.01]
    assert [set(group) & {"kind", "is_matrix"} for group in optimizer.param_groups] == [set()] * 2


def test_a_training_with_a_rate_of_its_own_has_it_for_all_weights(model, tmp_path):
    from modelforge.train.optimizer.create import use_groups
    from modelforge.train.strategies.reward_model import RewardModelTrainer

    assert RewardModelTrainer.own_rate
    trainer = trainer_for(model, tmp_path, optim="muon", **FULL)
    config = trainer_config(optim="muon", optimizer=RATES)
    trainer.args.learning_rate = 0.7
    use_groups(trainer, config, make_plan(config, PlanContext("cpu", "tiny")), own_rate=True)
    assert set(rates_by_name(trainer).values()) == {0.7}


def test_loraplus_trains_like_the_optimizer_of_peft(model, tmp_path):
    """Three steps on the same gradients give the same weights as PEFT's own function."""
    import copy

    import torch
    from peft.optimizers import create_loraplus_optimizer

    adapter = {"target_modules": "q_proj, down_proj, embed_tokens"}
    settings = {"optimizer": {"loraplus_ratio": 16, "embedding_lr": 0.002}, "weight_decay": 0.1}
    trainer = trainer_for(model, tmp_path, optim="adamw_torch", adapter=adapter, **settings)
    theirs = copy.deepcopy(trainer.model)
    ours = trainer.create_optimizer()
    of_peft = create_loraplus_optimizer(
        theirs, torch.optim.AdamW, lr=0.01, loraplus_lr_ratio=16, loraplus_lr_embedding=0.002,
        loraplus_weight_decay=0.1, betas=(0.9, 0.999), eps=1e-8,
    )  # fmt: skip
    before = copy.deepcopy(trainer.model)
    for step in range(3):
        torch.manual_seed(step)
        pairs = zip(trainer.model.parameters(), theirs.parameters(), strict=True)
        for weight, other in pairs:
            if weight.requires_grad:
                weight.grad = torch.randn_like(weight)
                other.grad = weight.grad.clone()
        ours.step()
        of_peft.step()
    moved = 0
    for (name, weight), other, old in zip(
        trainer.model.named_parameters(), theirs.parameters(), before.parameters(), strict=True
    ):
        assert weight.equal(other), name
        moved += not weight.equal(old)
    assert moved == 6
    rates = rates_by_name(trainer)
    assert {rate for name, rate in rates.items() if "lora_B" in name} == {0.16}


@pytest.mark.parametrize(
    ("changed", "setting"),
    [
        ({"muon_momentum": 0.5}, "muon_momentum"),
        ({"muon_beta2": 0.5}, "muon_beta2"),
        ({"muon_scale": "original"}, "muon_scale"),
        ({"cautious_weight_decay": False}, "cautious_weight_decay"),
    ],
)
def test_a_setting_of_muon_changes_what_is_trained(model, tmp_path, changed, setting):
    import copy

    def trained(**optimizer: Any) -> Any:
        trainer = trainer_for(
            copy.deepcopy(model), tmp_path, optim="normuon", optimizer=optimizer,
            weight_decay=0.1, **FULL,
        )  # fmt: skip
        trainer.train()
        return trainer.model.model.layers[0].mlp.up_proj.weight.detach()

    plain = trained()
    assert plain.equal(trained())
    assert not plain.equal(trained(**changed)), setting


def test_the_optimizer_with_muon_trains_matrices_by_muon_and_the_rest_by_adamw(model, tmp_path):
    import copy

    import torch

    trainer = trainer_for(
        copy.deepcopy(model), tmp_path, optim="muon", weight_decay=0.1,
        optimizer={"cautious_weight_decay": False}, **FULL,
    )  # fmt: skip
    ours = trainer.create_optimizer()
    matrices = [w for n, w in model.named_parameters() if "proj.weight" in n]
    rest = [w for n, w in model.named_parameters() if "proj.weight" not in n]
    references = [
        torch.optim.Muon(matrices, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0.01, weight_decay=0.0),
    ]
    for step in range(3):
        torch.manual_seed(step)
        for weight, other in zip(trainer.model.parameters(), model.parameters(), strict=True):
            weight.grad = torch.randn_like(weight)
            other.grad = weight.grad.clone()
        for optimizer in (ours, *references):
            optimizer.step()
    pairs = zip(trainer.model.named_parameters(), model.parameters(), strict=True)
    for (name, weight), other in pairs:
        assert weight.equal(other), name


def test_a_state_that_was_saved_continues_exactly(model, tmp_path):
    import copy
    import io

    import torch

    other = copy.deepcopy(model)
    pair = [
        trainer_for(each, tmp_path, optim="normuon", weight_decay=0.1, **FULL)
        for each in (model, other)
    ]
    first, second = (trainer.create_optimizer() for trainer in pair)

    def step(optimizer: Any, trainer: Any, seed: int) -> None:
        torch.manual_seed(seed)
        for weight in trainer.model.parameters():
            weight.grad = torch.randn_like(weight)
        optimizer.step()

    for seed in range(3):
        step(first, pair[0], seed)
    stored = io.BytesIO()
    torch.save(first.state_dict(), stored)
    stored.seek(0)
    second.load_state_dict(torch.load(stored, weights_only=True))
    other.load_state_dict(model.state_dict())
    for group in second.param_groups:
        group["lr"] *= 0.5  # as a schedule does, after the state was loaded
    for group in first.param_groups:
        group["lr"] *= 0.5
    for seed in range(3, 6):
        step(first, pair[0], seed)
        step(second, pair[1], seed)
    for weight, restored in zip(model.parameters(), other.parameters(), strict=True):
        assert weight.equal(restored)


def test_a_run_with_normuon_that_is_resumed_ends_with_the_same_weights(bench):
    import shutil

    from safetensors.torch import load_file

    run = bench.prepare(
        max_steps=6, eval_split=0.25, eval_steps=3, optim="normuon", learning_rate=0.01,
        trainer={"save_steps": 3}, evaluation={"keep_best": False},
        optimizer={"adapter_lr": 0.02, "loraplus_ratio": 4},
    )  # fmt: skip
    assert bench.work(run)[-1].kind == "finished"
    whole = load_file(run.output / "adapter_model.safetensors")
    shutil.rmtree(run.checkpoints / "checkpoint-6")
    shutil.rmtree(run.output)
    events = bench.work(run)
    assert events[-1].kind == "finished"
    steps = [event.data["step"] for event in events if event.kind == "step"]
    assert steps == [1, 2, 3, 4, 5, 6, 4, 5, 6]
    rates = [event.data["learning_rate"] for event in events if event.kind == "step"]
    assert max(rates) == pytest.approx(0.02, rel=0.1)
    resumed = load_file(run.output / "adapter_model.safetensors")
    assert all(resumed[name].equal(weight) for name, weight in whole.items())


def test_preferences_are_trained_by_muon_too(bench, write_rows):
    bench.rows = write_rows(
        [{"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No."} for n in range(8)]
    )
    adapter = {"enabled": False}
    run = bench.prepare(strategy="dpo", optim="normuon", max_steps=2, adapter=adapter)
    events = bench.work(run)
    assert events[-1].kind == "finished", events[-1].data
