"""Saved chats: listed, read again after a restart, renamed and deleted; bad content is refused."""

from __future__ import annotations

import json

import pytest

from modelforge.config.sampling import Sampling
from modelforge.errors import ConfigError, NotFoundError
from modelforge.services.chats import saved as module
from modelforge.services.chats.saved import SavedChatService

CONTENT = {
    "mode": "pair",
    "sides": [{"model": "run-1", "tuned": False}, {"model": "run-1"}],
    "settings": {"system": "Be brief.", "sampling": {"temperature": 0.7, "top_k": 40, "seed": 42}},
    "turns": [
        {
            "asked": "Where is my parcel?",
            "answers": [
                {"side": 0, "text": "I do not know.", "done": {"tokens": 5, "seconds": 0.1}},
                {"side": 1, "text": "Happy to look."},
            ],
            "vote": "left",
            "left": 1,
        },
        {"asked": "19", "role": "tool", "name": "weather"},
    ],
}


@pytest.fixture
def chats(tmp_path):
    return SavedChatService(tmp_path / "chats")


def test_a_chat_is_the_same_after_a_restart(chats, tmp_path):
    saved = chats.save(CONTENT)
    assert saved.name == "Where is my parcel?"
    again = SavedChatService(tmp_path / "chats").read(saved.id)
    assert again == saved
    assert again.settings.sampling == Sampling(temperature=0.7, top_k=40, seed=42)
    assert again.turns[0].answers[0].done == {"tokens": 5, "seconds": 0.1}


def test_the_chat_that_was_changed_last_is_listed_first(chats):
    first, second = chats.save(CONTENT), chats.save({**CONTENT, "name": "Returns"})
    assert [chat.name for chat in chats.list()] == ["Returns", "Where is my parcel?"]
    chats.save({**CONTENT, "turns": []}, first.id)
    listed = chats.list()
    assert [(chat.id, chat.turns, chat.votes) for chat in listed] == [
        (first.id, 0, 0),
        (second.id, 2, 1),
    ]
    assert listed[0].created == first.created


def test_a_chat_is_renamed_and_deleted(chats):
    saved = chats.save(CONTENT)
    assert chats.rename(saved.id, "  Angry\n customers ").name == "Angry customers"
    assert chats.read(saved.id).turns == saved.turns
    chats.delete(saved.id)
    assert chats.list() == []
    for act in (chats.read, chats.delete, lambda chat_id: chats.rename(chat_id, "x")):
        with pytest.raises(NotFoundError):
            act(saved.id)


@pytest.mark.parametrize("chat_id", ["", "../lease", "a" * 12 + "/x", "A" * 12, "..", "0" * 13])
def test_an_id_is_never_a_path(chats, tmp_path, chat_id):
    (tmp_path / "lease.json").write_text("{}", "utf-8")
    for act in (chats.read, chats.delete):
        with pytest.raises(NotFoundError):
            act(chat_id)
    assert (tmp_path / "lease.json").is_file()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"sides": []}, "sides"),
        ({"sides": [{"model": "a"}] * 3}, "sides"),
        ({"mode": "three"}, "mode"),
        ({"name": "x" * 81}, "name"),
        ({"turns": [{"asked": "x", "answers": [{"side": 2, "text": "x"}]}]}, "turns.0.answers"),
        ({"turns": [{"asked": "x" * 100_001}]}, "turns.0.asked"),
        ({"turns": [{"asked": "x"}] * 201}, "turns"),
        ({"settings": {"sampling": {"temperature": 3}}}, "settings.sampling.temperature"),
        ({"settings": {"colour": "red"}}, "settings.colour"),
        ({"path": "/etc/passwd"}, "path"),
    ],
)
def test_what_a_chat_cannot_hold_is_refused(chats, change, where):
    with pytest.raises(ConfigError) as refused:
        chats.save({**CONTENT, **change})
    assert refused.value.problems[0].where.startswith(where)
    assert chats.list() == []


def test_a_chat_of_more_than_a_megabyte_is_refused(chats):
    turns = [{"asked": "x" * 100_000}] * 11
    with pytest.raises(ConfigError, match=r"1\.1 MiB"):
        chats.save({**CONTENT, "turns": turns})


def test_as_many_chats_as_are_kept(chats, monkeypatch):
    monkeypatch.setattr(module, "MAX_CHATS", 1)
    saved = chats.save(CONTENT)
    with pytest.raises(ConfigError, match="1 saved chats"):
        chats.save(CONTENT)
    assert chats.save(CONTENT, saved.id).id == saved.id


def test_a_damaged_file_is_left_out(chats, tmp_path):
    saved = chats.save(CONTENT)
    for number, text in enumerate(["", "[]", "{", json.dumps({"id": "x"})]):
        (tmp_path / "chats" / f"{number:012}.json").write_text(text, "utf-8")
    (tmp_path / "chats" / "notes.json").write_text("{}", "utf-8")
    assert [chat.id for chat in chats.list()] == [saved.id]


def test_a_lone_surrogate_is_replaced(chats):
    saved = chats.save({**CONTENT, "name": "\ud800 x"})
    assert chats.read(saved.id).name == "? x"
