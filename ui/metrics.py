"""Charts and scores of the metrics, by the names that the trainer gives them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricChart:
    """A chart of one metric: its curves as (metric name, label, color).

    With `with_evaluation` the same metrics are drawn from the evaluation rows too; with
    `evaluation_only` only from those.
    """

    title: str
    curves: tuple[tuple[str, str, str], ...]
    with_evaluation: bool = True
    evaluation_only: bool = False
    aliases: tuple[str, ...] = ()


def _training(title: str, name: str, *aliases: str, with_evaluation: bool = True) -> MetricChart:
    return MetricChart(title, ((name, "training", "c1"),), with_evaluation, aliases=aliases)


def _evaluation(title: str, *curves: tuple[str, str, str]) -> MetricChart:
    return MetricChart(title, curves, evaluation_only=True)


TOKEN_ACCURACY = _training("Token accuracy", "mean_token_accuracy")
# The first charts that have points are drawn, in this order.
METRIC_CHARTS = (
    _training("Mean reward", "reward"),
    _training("Reward margin", "rewards/margins", "margin"),
    _training("Preference accuracy", "rewards/accuracies", "accuracy"),
    MetricChart(
        "Rewards",
        (("rewards/chosen", "chosen", "c2"), ("rewards/rejected", "rejected", "c4")),
        with_evaluation=False,
    ),
    _training("KL divergence", "kl", with_evaluation=False),
    _training("Completion length", "completions/mean_length", with_evaluation=False),
    _evaluation("QA scores", ("f1", "F1", "c1"), ("exact_match", "exact match", "ember")),
    _evaluation("ROUGE", ("rouge1", "ROUGE-1", "c1"), ("rougeL", "ROUGE-L", "ember")),
    _evaluation("Perplexity", ("perplexity", "evaluation", "ember")),
    TOKEN_ACCURACY,
)
# Score → its title and meaning.
SCORES = {
    "reward": ("Mean reward", "the reward of the completions; higher is better"),
    "rouge1": ("ROUGE-1", "share of words in common with the reference summary"),
    "rouge2": ("ROUGE-2", "share of word pairs in common"),
    "rougeL": ("ROUGE-L", "longest common subsequence of words"),
    "rougeLsum": ("ROUGE-Lsum", "the same, sentence by sentence"),
    "exact_match": ("Exact match", "share of answers that equal the reference"),
    "f1": ("F1", "word overlap of the answers with the reference"),
    "perplexity": ("Perplexity", "exponential of the evaluation loss; lower is better"),
    "bits_per_byte": ("Bits per byte", "loss per byte of text; lower is better"),
}
