"""Prompt files are read, or refused with every wrong line."""

from __future__ import annotations

import pytest

from modelforge.data.prompt_file import EvaluationPrompt, read_prompt_file
from modelforge.errors import ConfigError, NotFoundError


def test_prompts_are_read_with_their_lines(tmp_path):
    path = tmp_path / "prompts.jsonl"
    lines = [
        '\ufeff{"prompt": "Où?", "expected": "Ici"}',
        "",
        '{"prompt": "b", "rule": {"number": 3}}',
    ]
    path.write_bytes("\n".join(lines).encode())
    assert read_prompt_file(path) == [
        EvaluationPrompt("Où?", "Ici", line=1),
        EvaluationPrompt("b", rule={"number": 3}, line=3),
    ]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"There is no file .*none\.jsonl"):
        read_prompt_file(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "has no prompts"),
        (b"\xff\xfe", r"not UTF-8 text \(byte 0\)"),
        (b"prompt\n", "prompts.jsonl:1: The line is not JSON"),
        (b"[" * 100_000, "prompts.jsonl:1: The line is not JSON"),
        (b'{"prompt": 3}', "There is no prompt"),
        (b'{"prompt": "a", "expected": 4}', "The expected answer is not text"),
        (b'{"prompt": "a", "rule": "x"}', "The rule has no check"),
        (b'{"prompt": "a", "rule": {"has": "x"}}', "The rule has the unknown check 'has'"),
        (
            b'{"prompt": "a", "rule": {"least_words": 9, "most_words": 3}}',
            "prompts.jsonl:1: The rule contradicts itself",
        ),
        (b'{"prompt": "%s"}' % (b"a" * 20_001), "The prompt has 20,001 characters"),
        (b'{"prompt": "a"}', "There is no expected answer and no rule"),
        (b'{"prompt": "a", "expected": "b"}\n' * 501, "has 501 prompts"),
        (b"x\n" * 12, "There are 2 more problems"),
        (b" " * (4 * 2**20 + 1), "cannot be read: it is larger"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, content, what):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=what):
        read_prompt_file(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_prompt_file(tmp_path)
