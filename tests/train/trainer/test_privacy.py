"""Differential privacy: the gradients of single rows, the noise, and what is accounted for."""

from __future__ import annotations

import json
import math
from statistics import mean

import pytest
import torch

from modelforge.config.schema.privacy import Privacy, auto_delta
from modelforge.modeling.errors import WorkerError
from modelforge.train.trainer.privacy import (
    CollateAny,
    PoissonBatches,
    PrivacyAccount,
    PrivacyMixin,
    single_rows,
)
from tests.train.test_resume import again

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]
PRIVATE = {"privacy": {"enabled": True}, "evaluation": {"row_losses": True}}


@pytest.fixture
def _opacus():
    pytest.importorskip("opacus", reason="opacus is installed on demand")


needs_opacus = pytest.mark.usefixtures("_opacus")


def account(**settings):
    about = {"rows": 1000, "batch": 40, "steps": 300}
    about |= {name: settings.pop(name) for name in list(settings) if name in about}
    return PrivacyAccount(Privacy(enabled=True, **settings), **about)


class Plain:
    """A trainer of one linear layer: the loss of a batch is the mean over its rows."""

    def __init__(self):
        torch.manual_seed(1)
        self.model = torch.nn.Linear(6, 4, bias=False)
        self.unused = torch.nn.Parameter(torch.zeros(3))
        weights = [*self.model.parameters(), self.unused]
        self.optimizer = torch.optim.SGD(weights, lr=1.0)
        self.args = type("Arguments", (), {"device": "cpu"})

    def training_step(self, model, inputs, items=None):
        assert items is None
        loss = row_losses(model, inputs).mean()
        loss.backward()
        return loss.detach()


def row_losses(model, inputs):
    return (model(inputs["input_ids"]) - inputs["labels"]).pow(2).sum(dim=1)


class Private(PrivacyMixin, Plain):
    pass


@pytest.fixture
def batch():
    torch.manual_seed(2)
    return {"input_ids": torch.randn(5, 6), "labels": torch.randn(5, 4)}


@needs_opacus
@pytest.mark.parametrize("norm", [0.5, 3.0, 1000.0])
def test_the_gradient_of_each_row_is_clipped_and_the_sum_divided_by_the_mean_batch(batch, norm):
    trainer = Private()
    trainer.privacy = account(max_grad_norm=norm, batch=8)
    trainer.privacy._noise = 0.0
    loss = trainer.training_step(trainer.model, batch)
    weight, expected = trainer.model.weight, torch.zeros(4, 6)
    for row in range(5):
        one = {name: value[row : row + 1] for name, value in batch.items()}
        (gradient,) = torch.autograd.grad(row_losses(trainer.model, one).mean(), weight)
        expected += gradient * min(1.0, norm / float(gradient.norm()))
    torch.testing.assert_close(weight.grad, expected / 8, atol=1e-5, rtol=1e-4)
    assert float(loss) == pytest.approx(float(row_losses(trainer.model, batch).mean()))
    # A weight without a gradient gets noise too, here of 0.
    assert torch.equal(trainer.unused.grad, torch.zeros(3))
    assert trainer.privacy.done == 1


@needs_opacus
@pytest.mark.parametrize("rows", [0, 5])
def test_the_noise_has_its_standard_deviation_in_a_step_without_rows_too(batch, rows):
    trainer = Private()
    trainer.privacy = account(max_grad_norm=0.5, batch=8)
    trainer.privacy._noise = 4.0
    values = []
    for _ in range(300):
        trainer.training_step(trainer.model, {name: v[:rows] for name, v in batch.items()})
        values.append(trainer.unused.grad.clone())
    noise = torch.stack(values)
    # Noise multiplier times norm, divided by the mean batch: 4 * 0.5 / 8.
    assert float(noise.std()) == pytest.approx(0.25, rel=0.1)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.03)
    assert not torch.equal(noise[0], noise[1])


@needs_opacus
def test_the_noise_does_not_follow_the_seed(batch):
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        trainer = Private()
        trainer.privacy = account()
        trainer.training_step(trainer.model, batch)
        drawn.append(trainer.unused.grad)
    assert not torch.equal(*drawn)


def test_each_row_is_drawn_independently_for_each_step():
    torch.manual_seed(3)
    batches = list(PoissonBatches(rows=200, rate=0.1, steps=500))
    assert len(batches) == len(PoissonBatches(200, 0.1, 500)) == 500
    sizes = [len(batch) for batch in batches]
    # A binomial distribution: its mean is 20, its variance 18.
    assert mean(sizes) == pytest.approx(20, abs=1)
    assert mean((size - 20) ** 2 for size in sizes) == pytest.approx(18, rel=0.3)
    times = [sum(row in batch for batch in batches) for row in range(200)]
    assert min(times) > 20
    assert all(len(set(batch)) == len(batch) for batch in batches)
    torch.manual_seed(3)
    assert list(PoissonBatches(200, 0.1, 500)) != batches


def test_a_step_without_rows_has_tensors_without_rows():
    def collate(examples):
        return {"input_ids": torch.tensor([each["input_ids"] for each in examples]), "n": 3}

    collate_any = CollateAny(collate, {"input_ids": [1, 2, 3]})
    batch = collate_any([])
    assert batch["input_ids"].shape == (0, 3)
    assert batch["n"] == 3
    assert list(single_rows(batch)) == []
    assert collate_any([{"input_ids": [4, 5]}])["input_ids"].tolist() == [[4, 5]]


def test_a_row_is_cut_to_its_own_length():
    batch = {
        "input_ids": torch.tensor([[1, 2, 0, 0], [3, 4, 5, 6]]),
        "attention_mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]),
        "labels": torch.tensor([[1, 2, -100, -100], [3, 4, 5, 6]]),
    }
    short, long = single_rows(batch)
    assert short["input_ids"].tolist() == [[1, 2]]
    assert short["labels"].tolist() == [[1, 2]]
    assert long["input_ids"].tolist() == [[3, 4, 5, 6]]


def epsilon_by_formula(noise, rate, steps, delta):
    """Return epsilon by Renyi divergences of whole orders (Mironov, Talwar and Zhang, 2019).

    The divergence of order a of one step is log(sum over k of C(a, k) (1 - q)^(a - k) q^k
    exp(k (k - 1) / (2 s^2))) / (a - 1); those of all steps are added, and the smallest epsilon
    over all orders is taken (Balle et al., 2020).
    """
    best = math.inf
    for order in range(2, 64):
        terms = [
            math.log(math.comb(order, k))
            + ((order - k) * math.log1p(-rate) if rate < 1 else 0.0 if k == order else -math.inf)
            + k * math.log(rate)
            + k * (k - 1) / (2 * noise**2)
            for k in range(order + 1)
        ]
        largest = max(terms)
        divergence = largest + math.log(sum(math.exp(term - largest) for term in terms))
        spent = steps * divergence / (order - 1)
        conversion = math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
        best = min(best, spent + conversion)
    return best


@needs_opacus
@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [(1.1, 256 / 60000, 14_040, 1e-5), (2.0, 0.04, 300, 1e-4), (4.0, 1.0, 20, 1e-3)],
)
def test_the_accountant_agrees_with_the_formula(noise, rate, steps, delta):
    spent = account(delta=delta)._epsilon([(noise, rate, steps)])
    expected = epsilon_by_formula(noise, rate, steps, delta)
    # Opacus also tries orders that are no whole numbers, so its bound may be a little tighter.
    assert expected * 0.97 <= spent <= expected * (1 + 1e-9)


@needs_opacus
@pytest.mark.parametrize("epsilon", [0.5, 8.0])
def test_the_noise_spends_epsilon_and_not_more(epsilon):
    made = account(epsilon=epsilon, steps=30)
    for _ in range(30):
        made.add_step()
    assert 0.99 * epsilon <= made.epsilon <= epsilon
    event = made.event(30, None)
    assert event.epsilon == pytest.approx(made.epsilon, abs=1e-3)
    assert event.sample_rate == 0.04


def test_delta_follows_the_rows_unless_it_is_set():
    assert account(rows=1000).delta == pytest.approx(1000**-1.2) == auto_delta(1000)
    assert account(delta=1e-6).delta == 1e-6


@needs_opacus
def test_an_account_goes_on_where_it_was_saved():
    first = account(steps=20)
    for _ in range(8):
        first.add_step()
    second = account(steps=20)
    second.restore(json.loads(json.dumps(first.state())))
    assert second.noise == first.noise
    for _ in range(12):
        second.add_step()
    assert second.done == 20
    assert second.epsilon <= 8.0


@needs_opacus
def test_more_steps_than_planned_get_more_noise_until_nothing_is_left():
    first = account(steps=20)
    for _ in range(10):
        first.add_step()
    longer = account(steps=100)
    longer.restore(first.state())
    assert longer.noise > first.noise
    for _ in range(90):
        longer.add_step()
    assert longer.epsilon <= 8.0
    spent = account(steps=110)
    spent.restore(longer.state())
    stricter = account(steps=110, epsilon=1.0)
    stricter.restore(longer.state())
    with pytest.raises(WorkerError, match="already"):
        _ = stricter.noise


def data_of(events, kind):
    return [event.data for event in events if event.kind == kind]


@needs_opacus
def test_a_run_reports_what_it_has_spent(bench):
    settings = {**PRIVATE, "privacy": {"enabled": True, "epsilon": 3.0, "max_grad_norm": 0.7}}
    run = bench.prepare(max_steps=4, **settings)
    events = bench.work(run)
    assert events[-1].kind == "finished"
    spent = data_of(events, "privacy")[-1]
    assert 2.9 < spent["epsilon"] <= 3.0
    assert spent["max_grad_norm"] == 0.7
    assert spent["sample_rate"] == 2 / 16
    curve = [step["metrics"]["epsilon"] for step in data_of(events, "step")]
    assert curve == sorted(curve)
    assert curve[-1] == pytest.approx(spent["epsilon"], abs=1e-3)
    notes = {note["code"]: note["text"] for note in data_of(events, "note")}
    assert "each of 16 rows" in notes["privacy"]
    assert "row-losses-off" in notes
    assert not run.row_losses.exists()
    card = (run.output / "README.md").read_text("utf-8")
    assert f"epsilon {spent['epsilon']:.3f}" in card


@needs_opacus
def test_the_gradient_of_a_run_is_that_of_its_rows(bench, monkeypatch):
    """With a norm that nothing reaches, it is the sum of the gradients of each row's mean loss."""
    seen = []
    step, finish = PrivacyMixin.training_step, PrivacyMixin._finish

    def keep_rows(self, model, inputs, items=None):
        seen.append(inputs)
        return step(self, model, inputs, items)

    def compare(self, weights, made):
        got = [weight.summed_grad.clone() for weight in weights if weight.summed_grad is not None]
        if got:
            expected = gradients_of(self.model, seen[-1], weights)
            for ours, theirs in zip(got, expected, strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-3)
            seen.append("compared")
        finish(self, weights, made)

    monkeypatch.setattr(PrivacyMixin, "training_step", keep_rows)
    monkeypatch.setattr(PrivacyMixin, "_finish", compare)
    private = {"privacy": {"enabled": True, "max_grad_norm": 1000.0}}
    run = bench.prepare(max_steps=3, per_device_train_batch_size=8, lora_dropout=0, **private)
    assert bench.work(run)[-1].kind == "finished"
    assert seen.count("compared") >= 2


def gradients_of(model, batch, weights):
    total = [torch.zeros_like(weight) for weight in weights]
    names = ("input_ids", "attention_mask", "labels")
    for row in range(len(batch["input_ids"])):
        loss = model(**{name: batch[name][row : row + 1] for name in names}).loss
        for place, gradient in enumerate(torch.autograd.grad(loss, weights)):
            total[place] += gradient
    return total


@needs_opacus
def test_a_resumed_run_goes_on_with_its_account(bench, at):
    run = bench.prepare(max_steps=6, trainer={"save_steps": 2}, **PRIVATE)
    at("on_step_end", 4, lambda: run.stop.write_text("keep", encoding="utf-8"))
    first = data_of(bench.work(run), "privacy")[-1]
    events = again(bench, run)
    spent = data_of(events, "privacy")[-1]
    assert first["epsilon"] < spent["epsilon"] <= 8.0
    assert spent["noise_multiplier"] == first["noise_multiplier"]
    assert spent["step"] == 6


def test_a_run_without_privacy_is_not_changed(bench):
    run = bench.prepare(max_steps=1)
    events = bench.work(run)
    assert not data_of(events, "privacy")
    assert "Privacy" not in (run.output / "README.md").read_text("utf-8")
