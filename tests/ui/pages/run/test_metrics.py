"""Charts, samples, scores and stages of a run, by the metric names of the trainer."""

import re
from types import SimpleNamespace

from markupsafe import escape

from modelforge.runs.events import EventRecord
from modelforge.runs.timeline import Timeline
from ui.html.templates import render
from ui.metrics import CHART_NOTES, METRIC_CHARTS
from ui.pages.run import metrics, page, state
from ui.pages.run.state import stage_seconds_left


def timeline_of(*events):
    records = (EventRecord(n, float(n), *event) for n, event in enumerate(events, start=1))
    return Timeline().add_all(records)


def step(number, stage=None, loss=0.5, **values):
    staged = {} if stage is None else {"stage": stage}
    return "step", {"step": number, "loss": loss, "metrics": values, **staged}


def plan(stage, name, total=10):
    return "plan", {"total_steps": total, "stage": stage, "stages": 2, "stage_name": name}


def titles(stage):
    return [chart.title for chart in metrics.charts(stage).values()]


PREFERRED = {"rewards/margins": 0.4, "rewards/accuracies": 0.8, "rewards/chosen": 0.1,
             "rewards/rejected": -0.3}  # fmt: skip
# The steps of the plan.
STEPS = SimpleNamespace(total_steps=4, reward_steps=9)
TWO_STAGES = (
    plan(1, "Learning what people prefer"),
    step(1, 1, margin=0.1, accuracy=0.5),
    step(10, 1, margin=0.9, accuracy=0.9),
    plan(2, "Learning to be preferred", 4),
    step(1, 2, reward=-0.5, kl=0.01),
    step(2, 2, reward=1.0, kl=0.02),
)


def test_a_plain_run_has_no_metric_charts():
    timeline = timeline_of(step(1), step(2))
    assert titles(timeline.stage) == []
    assert metrics.samples(timeline) == metrics.scores(timeline) == ""
    assert metrics.stages(timeline, STEPS, is_over=False) == ""
    assert [name for name, _ in metrics.headline(timeline.stage)] == ["Loss", "Evaluation loss"]


def test_preference_runs_show_margin_accuracy_and_rewards():
    held = ("eval", {"step": 2, "loss": 0.4, "metrics": {"rewards/margins": 0.3}})
    timeline = timeline_of(step(1, **PREFERRED), step(2, **PREFERRED), held)
    assert titles(timeline.stage) == ["Reward margin", "Preference accuracy", "Rewards"]
    margin = next(iter(metrics.charts(timeline.stage).values()))
    assert "evaluation from 0.3" in margin.description
    assert metrics.headline(timeline.stage) == [
        ("Reward margin", "0.30"),
        ("Preference accuracy", "80 %"),
    ]


def test_reward_runs_show_reward_kl_and_length():
    timeline = timeline_of(step(1, reward=0.1, kl=0.0, **{"completions/mean_length": 40.0}))
    assert titles(timeline.stage) == ["Mean reward", "KL divergence", "Completion length"]
    assert metrics.headline(timeline.stage)[0] == ("Mean reward", "0.10")
    timeline = timeline_of(step(1, reward=0.1, kl=0.0, groups_without_signal=0.5))
    assert titles(timeline.stage) == ["Mean reward", "Groups without signal", "KL divergence"]


def test_metrics_of_the_evaluation_alone_are_drawn():
    found = ("eval", {"step": 5, "loss": 1.0, "metrics": {"f1": 0.6, "exact_match": 0.5}})
    assert titles(timeline_of(step(5), found).stage) == ["QA scores"]


def test_each_stage_keeps_its_own_steps_and_curves():
    timeline = timeline_of(*TWO_STAGES)
    first, second = timeline.stages
    assert (first.step, first.progress, second.step, second.progress) == (10, 1.0, 2, 0.5)
    assert list(first.train["margin"]) == [(1, 0.1), (10, 0.9)]
    assert "reward" not in first.train
    drawn = metrics.stages(timeline, STEPS, is_over=False)
    assert "Stage 1 of 2 · Learning what people prefer · 10 steps" in drawn
    assert "Stage 2 of 2 · Learning to be preferred · 4 steps" in drawn
    assert 'aria-valuenow="50"' in drawn
    assert state.progress_line(timeline).startswith("step 2 of 4")


def test_every_chart_says_what_it_shows_and_when_to_worry():
    titles = {"Loss", *(title for title, _ in page.SYSTEM_CHARTS.values())}
    assert CHART_NOTES.keys() == titles | {metric.title for metric in METRIC_CHARTS}
    assert all("Warning sign" in CHART_NOTES[title] for title in titles - {"Learning rate"})
    shown = render("run", "skeleton", page.SYSTEM_CHARTS, CHART_NOTES)
    timeline = timeline_of(*TWO_STAGES)
    shown += page._metric_cards(timeline.stage, is_new=False) + page._earlier_stages(timeline)
    drawn = page.charts(timeline).keys()
    assert {f"chart-{key}-more" for key in drawn} == set(
        re.findall(r'aria-controls="(chart-.*?)"', shown)
    )
    for key in drawn:
        title, note = re.search(
            f'<h2 class="name">([^<]*)</h2><button[^>]*aria-controls="chart-{key}-more"'
            f'[^>]*>.*?<p[^>]* id="chart-{key}-more" hidden>([^<]*)</p>',
            shown,
        ).groups()
        assert note == str(escape(CHART_NOTES[title]))


def test_the_load_of_a_stopped_run_ends_at_its_last_step():
    loads = [
        ("step", {"step": n, "loss": 1.0, "cpu_percent": 90.0 + n, "gpu_percent": None})
        for n in range(1, 6)
    ]
    timeline = timeline_of(plan(1, "", 20), *loads, ("stopped", {"step": 5, "kept": True}))
    load = page.charts(timeline)["load"]
    assert (load.x_unit, load.x_end) == ("step", 20)
    assert load.series[0].x == [1, 2, 3, 4, 5]
    assert load.series[0].y == [91.0, 92.0, 93.0, 94.0, 95.0]


def test_a_stage_that_has_not_started_is_shown():
    timeline = timeline_of(*TWO_STAGES[:2])
    drawn = metrics.stages(timeline, STEPS, is_over=False)
    assert "Stage 2 of 2 · not started · 4 steps" in drawn
    assert state.progress_line(timeline, STEPS.total_steps).startswith("step 1 of 10 + 4")


def test_the_progress_is_that_of_both_stages():
    shares = [
        state.completed_share(timeline_of(*TWO_STAGES[:count]), STEPS.total_steps)
        for count in (2, 3, 6)
    ]
    assert shares == [1 / 14, 10 / 14, 12 / 14]


def test_a_run_resumed_in_its_second_stage_keeps_the_first():
    timeline = timeline_of(
        *TWO_STAGES, ("started", {"pid": 2, "birth": 2.0}), plan(2, "Learning to be preferred", 4)
    )
    assert len(timeline.stages) == 2
    assert list(timeline.stage.train["reward"]) == [(1, -0.5), (2, 1.0)]


def test_the_time_left_is_that_of_the_stage():
    early = timeline_of(("started", {"pid": 1, "birth": 1.0}), *TWO_STAGES[:3])
    assert stage_seconds_left(early) == 0.0


def test_samples_are_newest_first_and_escaped():
    events = [("sample", {"step": n, "prompt": "<b>?", "completion": f"<i>{n}", "reward": n / 2})
            for n in (1, 2)]  # fmt: skip
    drawn = metrics.samples(timeline_of(*events))
    assert "<i>1" not in drawn
    assert drawn.index("&lt;i&gt;2") < drawn.index("&lt;i&gt;1")
    assert "1.00" in drawn


def test_the_number_of_samples_is_limited():
    many = [("sample", {"step": n, "prompt": "?", "completion": "x"}) for n in range(500)]
    timeline = timeline_of(*many)
    assert len(timeline.samples) == 24
    assert metrics.samples(timeline).count("<tr>") == metrics.MAX_SAMPLES + 1


def test_scores_show_before_after_and_meaning():
    scores = {"rows": 50, "before": {"f1": 0.31}, "after": {"f1": 0.83, "<new>": 12.0}}
    drawn = metrics.scores(timeline_of(("scores", scores)))
    assert "0.310" in drawn
    assert "0.830" in drawn
    assert "word overlap of the answers" in drawn
    assert "&lt;new&gt;" in drawn
    assert "50 evaluation rows" in drawn
    alone = metrics.scores(
        timeline_of(("scores", {"rows": 1, "before": None, "after": {"f1": 0.5}}))
    )
    assert "Before" not in alone


def test_the_verdict_names_rewards_and_margins():
    end = ("finished", {"steps": 2, "seconds": 3.0})
    rewarded = state.verdict_text(timeline_of(*TWO_STAGES, end), 2.0)
    assert "The mean reward" in rewarded
    held = ("eval", {"step": 2, "loss": 1, "metrics": {**PREFERRED}})
    preferred = state.verdict_text(timeline_of(step(2, **PREFERRED), held, end), 2.0)
    assert "0.40 on the evaluation pairs; the chosen one is preferred in 80 %" in preferred


def test_metrics_that_are_not_numbers_are_left_out():
    timeline = timeline_of(step(1, reward=None, kl="much"), ("eval", {"step": 1, "metrics": None}))
    assert "reward" not in timeline.stage.train
    assert titles(timeline.stage) == []
