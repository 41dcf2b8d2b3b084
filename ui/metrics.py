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
BITS_PER_BYTE = "Bits per byte"
# The first charts that have points are drawn, in this order.
METRIC_CHARTS = (
    _training(BITS_PER_BYTE, "bits_per_byte"),
    _training("Mean reward", "reward"),
    _training("Groups without signal", "groups_without_signal", with_evaluation=False),
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
    _training("Epsilon", "epsilon", with_evaluation=False),
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
# Title of a chart → what it shows, which direction is good, and when to worry.
CHART_NOTES = {
    "Loss": "How far the model is from what the rows teach; lower is better. It usually falls "
    "fast, then slowly. Warning signs: the evaluation loss rises while the training loss falls "
    "(the model memorizes the rows: train for fewer epochs), or the loss jumps and stays high "
    "(lower the learning rate). In training on rewards it stays near 0 and says little: look at "
    "the rewards.",
    "Bits per byte": "How many bits the model needs for one byte of text, by the bytes of the text "
    "itself, so that models with different tokenizers can be compared; lower is better. For "
    "comparison: gzip needs about 2.9 for English prose. Warning sign: it rises on the text held "
    "out for evaluation while that of training falls (more text, or fewer passes over it).",
    "Mean reward": "The mean reward of the generated completions; higher is better. Warning "
    "signs: it does not rise, or it rises while the samples get worse (the reward then values "
    "something else than you do).",
    "Groups without signal": "The share of groups (the completions of one prompt) that all get "
    "the same reward, so that nothing is compared; lower is better. The reward trial of a trial "
    "run predicts it for the start. Warning sign: it is near 1 (more completions per prompt, or "
    "a higher temperature).",
    "Reward margin": "The reward of the chosen completions minus that of the rejected ones; "
    "higher is better, and 0 is no preference. Warning signs: the margin of the evaluation rows "
    "stays near 0, or falls while that of training rises (the model memorizes the pairs).",
    "Preference accuracy": "The share of pairs whose chosen completion has the higher reward; "
    "higher is better, and 0.5 is chance. Warning sign: the share of the evaluation rows stays "
    "near 0.5.",
    "Rewards": "The rewards of the chosen and of the rejected completions; the distance between "
    "them should grow. Warning sign: the reward of the chosen ones falls far, too (their text "
    "becomes unlikely: lower the learning rate).",
    "KL divergence": "How far the model has moved from the one before this training; closer to 0 "
    "is nearer to it. A slow rise is normal. Warning signs: it rises steeply or without end, or "
    "the samples become nonsense (raise the KL coefficient or Beta, or lower the learning rate).",
    "Completion length": "The mean length of the generated completions in tokens; neither "
    "direction is better in itself. Warning signs: it reaches the maximum completion length "
    "(answers are cut off), or falls to a few tokens.",
    "Epsilon": "The privacy that was spent by then, for each training row; less is more private. "
    "It grows with every step and ends below the epsilon of the settings.",
    "QA scores": "Answers to the evaluation rows compared with the reference answers: the "
    "overlap of words (F1) and the share that is equal; higher is better. Warning sign: they "
    "fall while the training loss falls.",
    "ROUGE": "The words (ROUGE-1) and the sequences of words (ROUGE-L) that summaries share with "
    "the references; higher is better. Warning sign: they fall while the training loss falls.",
    "Perplexity": "The exponential of the evaluation loss; lower is better, and 1 is certainty. "
    "Warning sign: it rises while the training loss falls.",
    "Token accuracy": "The share of tokens of the rows that the model predicts; higher is "
    "better. Warning sign: that of the evaluation rows falls while that of training rises.",
    "Tokens per second": "The speed of training; higher is faster, and it changes nothing that "
    "is learned. Warning sign: it falls by half for long (another program uses the computer, or "
    "it is hot).",
    "Learning rate": "The size of the steps, by the schedule of the settings: it rises during "
    "the warm-up and falls after it. It is neither good nor bad; look at the loss.",
    "Load": "How busy the processor and the GPU are. Where a GPU trains, near 100 % is good. "
    "Warning sign: a GPU stays far below (a larger batch may be faster).",
}
