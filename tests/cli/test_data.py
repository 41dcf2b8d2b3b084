"""`modelforge data`."""

from __future__ import annotations

import json

import pytest

from modelforge.cli.main import main


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MODELFORGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"input": f"Question {n}?", "output": f"Answer {n}."}) for n in range(20)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def read_json(capsys):
    return json.loads(capsys.readouterr().out)


def test_inspect_prints_rows_and_their_mapping(rows, capsys):
    assert main(["data", "inspect", str(rows), "--rows", "2"]) == 0
    output = capsys.readouterr().out
    assert "20 rows" in output
    assert "user: Question 0?" in output
    assert "assistant: Answer 1." in output
    assert "Question 2?" not in output


def test_inspect_prints_json(rows, capsys):
    assert main(["data", "inspect", str(rows), "--json"]) == 0
    look = read_json(capsys)
    assert look["rows"] == 20
    assert look["mapping"]["kind"] == "pair"
    assert look["preview"][0]["line"] == 1


def test_columns_are_mapped_with_field_options(tmp_path, capsys):
    odd = tmp_path / "odd.csv"
    odd.write_text("frage,reply\n" + "was?,das\n" * 12, "utf-8")
    assert main(["data", "inspect", str(odd)]) == 2
    assert "frage" in capsys.readouterr().err
    fields = ["-f", "instruction_field=frage", "--field", "output_field=reply"]
    assert main(["data", "inspect", str(odd), *fields, "--json"]) == 0
    assert read_json(capsys)["preview"][0]["reads"]["messages"][1]["content"] == "das"
    assert main(["data", "inspect", str(odd), "-f", "instruction_field"]) == 2
    assert "key=value" in capsys.readouterr().err


def test_columns_are_left_out_with_a_field_option(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    row = {"prompt": "Which?", "completion": "This.", "system": "Be brief.", "history": []}
    path.write_text(f"{json.dumps(row)}\n" * 12, "utf-8")
    assert main(["data", "inspect", str(path), "--json"]) == 0
    assert read_json(capsys)["mapping"]["unused"] == []
    fields = ["-f", "unused_columns=system,history"]
    assert main(["data", "inspect", str(path), *fields, "--json"]) == 0
    found = read_json(capsys)
    assert found["mapping"]["unused"] == ["system", "history"]
    roles = [message["role"] for message in found["preview"][0]["reads"]["messages"]]
    assert roles == ["user", "assistant"]
    assert main(["data", "inspect", str(path), *fields]) == 0
    assert "Not used: system, history." in capsys.readouterr().out
    assert main(["data", "check", str(path), *fields, "--json"]) == 0
    assert "unused-columns" not in capsys.readouterr().out
    assert main(["data", "inspect", str(path), "-f", "unused_columns=sistem"]) == 2
    assert "Did you mean system?" in capsys.readouterr().err


def test_check_of_usable_data_exits_with_0(rows, capsys):
    with rows.open("a", encoding="utf-8") as file:
        file.write('{"input": "Question 0?", "output": "Answer 0."}\n')
    assert main(["data", "check", str(rows), "--json"]) == 0
    output = read_json(capsys)
    assert output["trainable"] is True
    assert "duplicate-rows" in [found["code"] for found in output["files"][0]["findings"]]
    assert main(["data", "check", str(rows)]) == 0
    assert "The data can be used for training." in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{broken", '{"a": 1, "b": 2}\n', "\x00\x01\x02"])
def test_check_of_unusable_data_exits_with_2(tmp_path, capsys, content):
    path = tmp_path / "bad.jsonl"
    path.write_text(content, "utf-8")
    assert main(["data", "check", str(path), "--json"]) == 2
    output = read_json(capsys)
    assert output["trainable"] is False
    findings = [found for file in output["files"] for found in file["findings"]]
    assert output["problems"] or any(found["level"] == "blocker" for found in findings)
    assert main(["data", "check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert (out + err).strip()


def test_check_reports_every_file(rows, tmp_path, capsys):
    other = tmp_path / "other.jsonl"
    other.write_text(rows.read_text("utf-8").replace("Answer", "Reply"), "utf-8")
    assert main(["data", "check", str(rows), str(other), "--json"]) == 0
    assert len(read_json(capsys)["files"]) == 2


def test_check_reports_rows_that_are_also_evaluation_rows(rows, tmp_path, capsys):
    aside = tmp_path / "aside.jsonl"
    aside.write_text("\n".join(rows.read_text("utf-8").splitlines()[:3]), "utf-8")
    assert main(["data", "check", str(rows), "--against", str(aside), "--json"]) == 0
    found = {each["code"]: each for each in read_json(capsys)["files"][0]["findings"]}
    assert found["leaked-rows"]["count"] == 3


def test_repair_writes_a_copy_and_counts_the_changes(rows, home, capsys):
    with rows.open("a", encoding="utf-8") as file:
        file.write('{"input": "Question 0?", "output": "Answer 0."}\n')
        file.write('{"input": "q", "output": ""}\n')
    before = rows.read_bytes()
    assert main(["data", "repair", str(rows)]) == 2
    assert "would lose 2 of" in capsys.readouterr().err
    assert main(["data", "repair", str(rows), "--json", "--yes"]) == 0
    done = read_json(capsys)[0]
    assert rows.read_bytes() == before
    assert done["changes"]["duplicate-rows"] == 1
    assert main(["data", "check", done["path"], "--json"]) == 0


def test_a_missing_file_is_an_error(tmp_path, capsys):
    assert main(["data", "inspect", str(tmp_path / "absent.csv")]) == 2
    assert "absent.csv" in capsys.readouterr().err


def test_tokens_without_the_starter_model_is_an_error(rows, capsys):
    assert main(["data", "tokens", str(rows), "--json"]) == 2
    assert read_json(capsys)["problems"][0]["where"] == "model_name"


def test_text_from_a_file_is_escaped(tmp_path, capsys):
    path = tmp_path / "evil.jsonl"
    row = {"input": "\x1b[2J\x1b]0;owned\x07", "output": "\u202egnp.exe", "\x1b[31mred": "x"}
    path.write_text("\n".join([json.dumps(row)] * 12), "utf-8")
    for command in ("inspect", "check"):
        main(["data", command, str(path)])
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert "\u202e" not in out + err


def test_help_lists_the_data_commands(capsys):
    with pytest.raises(SystemExit) as left:
        main(["data", "--help"])
    assert left.value.code == 0
    output = capsys.readouterr().out
    assert all(word in output for word in ("inspect", "check", "repair", "tokens", "fetch"))


@pytest.mark.torch
def test_tokens_match_the_trained_ones(rows, home_with_starter, monkeypatch, capsys):
    monkeypatch.setenv("MODELFORGE_HOME", str(home_with_starter))
    assert main(["data", "tokens", str(rows), "--row", "2", "--json"]) == 0
    page = read_json(capsys)
    (row,) = page["rows"]
    learned = [piece for piece in row["pieces"] if piece["role"] in ("trained", "end")]
    assert "".join(piece["text"] for piece in learned) == "Answer 2.<|im_end|>"
    assert row["pieces"][-1]["role"] == "masked"
    assert sum(page["totals"].values()) == len(row["pieces"])
    assert main(["data", "tokens", str(rows), "--row", "99"]) == 2
    assert "no usable row 99" in capsys.readouterr().err


def test_rows_above_the_maximum_length_are_reported(home, tmp_path, capsys):
    path = tmp_path / "long.jsonl"
    row = {"input": "why? " * 200, "output": "because " * 200}
    path.write_text("\n".join(json.dumps(row | {"n": n}) for n in range(12)), "utf-8")
    main(["data", "check", str(path), "--json"])
    plain = {one["code"] for one in json.loads(capsys.readouterr().out)["files"][0]["findings"]}
    main(["data", "check", str(path), "--json", "--max-seq-length", "64"])
    asked = {one["code"] for one in json.loads(capsys.readouterr().out)["files"][0]["findings"]}
    assert any("long" in code for code in asked - plain), asked
