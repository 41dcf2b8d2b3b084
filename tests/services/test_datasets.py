"""The data questions at the front door: several sources, findings, repair, tokens, deletion."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from modelforge.errors import BlockedError, BusyError, ConfigError, DataError, NotFoundError
from modelforge.forge import Forge
from modelforge.paths import Home
from tests.services.test_runs import asked, until

ACTORS = Path(__file__).parents[1] / "actors"


@pytest.fixture
def forge(tmp_path):
    warm_worker = [sys.executable, str(ACTORS / "answers.py")]
    worker = [sys.executable, str(ACTORS / "obeys.py")]
    forge = Forge(Home(tmp_path / "home"), worker=worker, warm_worker=warm_worker)
    yield forge
    for view in forge.runs.views():
        forge.runs.stop(view.id)
        until(lambda: forge.runs.state(view.id).is_over, "the run is over")  # noqa: B023
    forge.close()


def written(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", "utf-8")
    return path


def pairs(path, count, mark=""):
    return written(path, [{"input": f"q{mark}{n}", "output": f"a{mark}{n}"} for n in range(count)])


def preferences(path, count):
    rows = [{"prompt": f"q{n}", "chosen": "good", "rejected": "bad"} for n in range(count)]
    return written(path, rows)


def codes(checked, level=None):
    return {
        found.code for found in checked.report.findings if level is None or found.level == level
    }


def test_several_sources_are_one_material_and_stand_in_the_record(forge, model, tmp_path):
    one, two = pairs(tmp_path / "one.jsonl", 20), pairs(tmp_path / "two.jsonl", 30, "x")
    sources = [{"path": str(one)}, {"path": str(two), "samples": 10}]
    checked = forge.preflight.check(asked(model, one, **{"data.sources": sources}))
    assert checked.ready, checked.problems
    assert checked.summary.rows == 30
    assert checked.summary.name == "one.jsonl and 1 more"
    run_id = forge.runs.start(asked(model, one, **{"data.sources": sources}))
    record = forge.runs.view(run_id).dataset
    assert [Path(each["files"][0]).name for each in record["sources"]] == ["one.jsonl", "two.jsonl"]
    assert record["sources"][1]["source"]["samples"] == 10
    assert record["validation"] == []


def test_validation_sources_take_the_place_of_the_split(forge, model, data, tmp_path):
    aside = pairs(tmp_path / "aside.jsonl", 5, "v")
    layer = asked(
        model, data, eval_split=0.5, **{"data.validation_sources": [{"path": str(aside)}]}
    )
    checked = forge.preflight.check(layer)
    assert checked.ready, checked.problems
    assert ("eval_split", 0) in [(change.where, change.used) for change in checked.plan.changes]
    assert checked.plan.total_steps == 5  # all 20 rows, 4 an update
    assert checked.plan.eval_steps is not None


def test_validation_rows_that_are_also_trained_on_are_reported(forge, model, data):
    layer = asked(model, data, **{"data.validation_sources": [{"path": str(data)}]})
    assert "validation-is-trained" in codes(forge.preflight.check(layer))


def test_all_sources_that_cannot_be_read_are_reported_at_once(forge, model, tmp_path):
    good = pairs(tmp_path / "good.jsonl", 20)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"input": "q"', "utf-8")
    sources = [{"path": str(good)}, {"path": str(tmp_path / "absent.csv")}, {"path": str(broken)}]
    checked = forge.preflight.check(asked(model, good, **{"data.sources": sources}))
    problems = " ".join(str(problem) for problem in checked.problems)
    assert "absent.csv" in problems
    assert "broken.jsonl" in problems
    assert "good.jsonl" not in problems


def test_rows_of_the_wrong_kind_block_the_start_in_words(forge, model, data, tmp_path):
    liked = preferences(tmp_path / "liked.jsonl", 20)
    with pytest.raises(BlockedError) as refused:
        forge.runs.start(asked(model, liked))
    assert "liked.jsonl contains preferences" in str(refused.value)
    assert "wrong-kind" in codes(
        forge.preflight.check(asked(model, data, strategy="dpo")), "blocker"
    )


def test_a_rule_rewards_answers_to_questions_without_a_pair(forge, model, data, tmp_path):
    ruled = {"strategy": "rlhf", "trainer.reward": "exact-match"}
    assert "wrong-kind" not in codes(forge.preflight.check(asked(model, data, **ruled)))
    source = {"path": str(data), "instruction_field": "input", "output_field": "output"}
    named = {"data.sources": [source]}
    assert forge.preflight.check(asked(model, data, **ruled, **named)).ready
    texts = written(tmp_path / "texts.jsonl", [{"text": f"tale {n}"} for n in range(20)])
    found = codes(forge.preflight.check(asked(model, texts, **ruled)), "blocker")
    assert "wrong-kind" in found
    # A reward model that the run trains itself learns from pairs.
    own = {"strategy": "rlhf", "trainer.reward": "model"}
    assert "wrong-kind" in codes(forge.preflight.check(asked(model, data, **own)), "blocker")
    pairs_only = forge.preflight.check(asked(model, data, **own, **named))
    assert "trains on preferences" in str(pairs_only.problems[0])


def test_plain_text_has_no_assistant_turn_to_learn(forge, model, data, tmp_path):
    texts = written(tmp_path / "texts.jsonl", [{"text": f"tale {n}"} for n in range(20)])
    only = {"data.loss_on": "assistant"}
    assert "no-assistant-turns" in codes(
        forge.preflight.check(asked(model, texts, **only)), "blocker"
    )
    mixed = only | {"data.sources": [{"path": str(texts)}, {"path": str(data)}]}
    assert "no-assistant-turns" in codes(
        forge.preflight.check(asked(model, data, **mixed)), "caution"
    )
    assert "no-assistant-turns" not in codes(forge.preflight.check(asked(model, data, **only)))


def test_fields_of_a_source_map_odd_columns_and_their_problems_are_named(forge, tmp_path):
    odd = written(tmp_path / "odd.jsonl", [{"frage": f"q{n}", "reply": f"a{n}"} for n in range(12)])
    with pytest.raises(DataError, match="frage"):
        forge.datasets.summarize(forge.datasets.parse_sources(str(odd)))
    fields = {"instruction_field": "frage", "output_field": "reply"}
    look = forge.datasets.summarize(forge.datasets.parse_sources(str(odd), fields))
    assert look.rows == 12
    assert look.examples[0]["messages"][0]["content"] == "q0"
    with pytest.raises(ConfigError) as refused:
        forge.datasets.parse_sources(str(odd), {"kolour": "red", "weight": -1})
    assert all("data.sources[0]" in problem.where for problem in refused.value.problems)


def test_a_preview_shows_rows_raw_and_read(forge, tmp_path):
    file = written(tmp_path / "some.jsonl", [{"input": "q", "output": "a"}, {"input": "q2"}])
    shown = forge.datasets.preview(forge.datasets.parse_sources(str(file)), first=5)
    assert shown["rows"][0]["reads"]["messages"][1]["content"] == "a"
    assert shown["rows"][1]["reads"] is None
    assert shown["rows"][1]["why"] == "missing-field"
    assert shown["rows"][1]["line"] == 2
    assert (
        forge.datasets.preview(forge.datasets.parse_sources(str(file)), first=5, after=2)["rows"]
        == []
    )


def test_what_is_wrong_is_found_and_a_repaired_copy_can_be_trained_on(forge, model, tmp_path):
    rows = [{"input": f"q{n}", "output": f"a{n}"} for n in range(20)]
    file = written(tmp_path / "dirty.jsonl", [*rows, rows[0], {"input": "q", "output": " "}])
    before = file.read_bytes()
    sources = forge.datasets.parse_sources(str(file))
    diagnosis = forge.datasets.check(sources)[0]
    assert {"duplicate-rows", "empty-answer"} <= {found.code for found in diagnosis.findings}
    repaired = forge.datasets.repair(sources, allow_removal=True)[0]
    assert file.read_bytes() == before
    assert repaired.path != file
    assert sum(repaired.changes.values()) >= 2
    checked = forge.preflight.check(asked(model, repaired.path))
    assert checked.ready, checked.problems
    assert checked.summary.rows == 20


def test_tokens_are_asked_of_a_worker_with_all_it_needs(forge, model, data):
    page = forge.datasets.tokens(asked(model, data, max_seq_length=64), row=3, count=2)
    probe = page["asked"]
    assert probe["kind"] == "tokens"
    assert probe["plan"]["max_length"] == 64
    assert probe["plan"]["model_path"] == str(model)
    assert (probe["row"], probe["count"]) == (3, 2)


def test_a_row_is_counted_through_all_sources(forge, model, tmp_path):
    one, two = pairs(tmp_path / "one.jsonl", 20), pairs(tmp_path / "two.jsonl", 30, "x")
    sources = {"data.sources": [{"path": str(one), "samples": 12}, {"path": str(two)}]}
    probe = forge.datasets.tokens(asked(model, one, **sources), row=15)["asked"]
    assert (probe["source"], probe["row"]) == (1, 3)
    probe = forge.datasets.tokens(asked(model, one, **sources), row=15, source=0)["asked"]
    assert (probe["source"], probe["row"]) == (0, 15)


def test_what_the_worker_says_in_words_is_passed_on(forge, model, data):
    with pytest.raises(DataError, match="no row 404") as refused:
        forge.datasets.tokens(asked(model, data), row=404)
    assert refused.value.problems[0].remedy == "Ask for another."


def test_what_is_fetched_joins_the_data_sets_at_hand(forge):
    progress = []
    kept = forge.datasets.fetch("owner/name", split="train[:10%]", on_progress=progress.append)
    assert kept.kind == "fetched"
    assert kept.path.is_file()
    assert progress == [{"done": 1, "total": 2}]
    assert kept in forge.datasets.available()
    with pytest.raises(NotFoundError, match="not the name of a dataset"):
        forge.datasets.fetch("../../etc/passwd")


def test_a_file_of_object_storage_is_fetched_by_its_address(forge):
    kept = forge.datasets.fetch("s3://bucket/sets/rows.jsonl")
    assert kept in forge.datasets.available()
    assert kept.name == "s3__bucket__sets__rows.jsonl"
    with pytest.raises(ConfigError, match="before the @") as refused:
        forge.datasets.fetch("s3://KEY:secret@bucket/rows.jsonl")
    assert "secret" not in str(refused.value)


def test_tokens_of_answers_that_are_wrong_are_refused_with_every_problem(forge, tmp_path):
    with pytest.raises(ConfigError) as refused:
        forge.datasets.tokens(asked("m", "d", lora_r=0, warmup_ratio=2))
    assert {problem.where for problem in refused.value.problems} == {"lora_r", "warmup_ratio"}


def test_data_that_a_run_reads_is_not_deleted_under_it(forge, model):
    rows = (json.dumps({"input": f"q{n}", "output": f"a{n}"}) + "\n" for n in range(20))
    kept = forge.datasets.upload("mine.jsonl", (row.encode() for row in rows), 10_000)
    run_id = forge.runs.start(asked(model, kept.name))
    with pytest.raises(BusyError) as refused:
        forge.datasets.delete("mine.jsonl")
    assert refused.value.holder == run_id
    forge.runs.stop(run_id)
    until(lambda: forge.runs.state(run_id).is_over, "the run is over")
    forge.datasets.delete("mine.jsonl")
    assert not kept.exists()
    with pytest.raises(NotFoundError):
        forge.datasets.delete("mine.jsonl")


def test_a_look_at_several_files_is_remembered_until_one_changes(forge, tmp_path):
    one, two = pairs(tmp_path / "one.jsonl", 12), pairs(tmp_path / "two.jsonl", 12, "x")
    sources = [*forge.datasets.parse_sources(str(one)), *forge.datasets.parse_sources(str(two))]
    assert forge.datasets.summarize(sources).rows == 24
    first = forge.datasets.load_sources(sources)
    assert forge.datasets.load_sources(sources)[0] is first[0]
    time.sleep(0.01)
    pairs(two, 15, "x")
    assert forge.datasets.summarize(sources).rows == 27
    assert forge.datasets.load_sources(sources)[0] is first[0]


def test_a_pair_is_two_judged_answers_where_they_are_learned_one_by_one(forge, model, tmp_path):
    settings = {"strategy": "dpo", "eval_split": 0, "gradient_accumulation_steps": 1}
    rows = str(preferences(tmp_path / "pairs.jsonl", 40))

    def updates(loss):
        body = asked(model, rows, **settings, trainer={"preference_loss": loss})
        return forge.preflight.check(body).plan.total_steps

    assert (updates("sigmoid"), updates("kto")) == (40, 80)


def with_tokenizer(model):
    """Give the model a tokenizer of one token per word."""
    vocabulary = WordLevel({"[UNK]": 0, "word": 1}, unk_token="[UNK]")
    tokenizer = Tokenizer(vocabulary)
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(model / "tokenizer.json"))
    return model


@pytest.mark.parametrize(("strategy", "limit"), [("dpo", 63), ("rlhf", 48)])
def test_preferences_without_a_prompt_that_fits_are_refused_before_the_start(
    forge,
    model,
    tmp_path,
    strategy,
    limit,
):
    def check(*words):
        rows = [
            {"prompt": "word " * count, "chosen": f"good {at}", "rejected": "bad"}
            for at, count in enumerate(words * 10)
        ]
        path = written(tmp_path / f"{strategy}-{words[0]}-{len(words)}.jsonl", rows)
        more = {"strategy": strategy, "max_seq_length": 64}
        trainer = {"max_completion_length": 16} if strategy == "rlhf" else {}
        layer = asked(with_tokenizer(model), path, trainer=trainer, **more)
        found = forge.preflight.check(layer).report.findings
        return next((each for each in found if each.code == "no-prompt-fits"), None)

    refused = check(limit + 1, limit + 20)
    assert refused.level == "blocker"
    assert f"All 20 prompts are too long: the shortest has {limit + 1} tokens" in refused.what
    assert f"{limit} leave room" in refused.what
    assert check(limit + 20, limit) is None
    assert check(limit + 20, 3) is None
