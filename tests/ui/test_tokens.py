"""The token view: colours, counts, ids, and no token that could be markup."""

from ui.pages.train import token_view

PIECES = [
    {"id": 1, "text": "<|im_start|>user\n", "role": "masked"},
    {"id": 2, "text": "<b>", "role": "masked"},
    {"id": 3, "text": "Paris", "role": "trained"},
    {"id": 4, "text": "<|im_end|>", "role": "end"},
    {"id": 5, "text": " more", "role": "cut"},
    {"id": 0, "text": "", "role": "pad"},
]


def shown(pieces=PIECES, number=17, rows=40):
    return token_view.part({"rows": [{"pieces": pieces}], "totals": {}}, number, rows)


def test_every_role_has_its_colour_and_every_token_its_id():
    page = shown()
    for tone, number in (("m", 2), ("t", 3), ("e", 4), ("c", 5), ("p", 0)):
        assert f'<span class="{tone}" title="id {number}">' in page


def test_a_token_is_never_markup():
    assert "<b>" not in shown()
    assert "&lt;b&gt;" in shown()


def test_padding_is_not_counted_and_the_end_is_learned():
    said = token_view.sentence(PIECES, 17)
    assert said.startswith("Row 17 as it will be trained. Grey is read but not learned,")
    assert said.endswith("2 of 5 tokens are learned.")


def test_only_colours_that_are_there_are_explained():
    assert "padding" not in token_view.sentence(PIECES[:4], 1)
    assert "cut off" not in token_view.sentence(PIECES[:4], 1)


def test_a_group_is_named_once_for_those_who_do_not_see_it():
    assert shown().count("> read: </span>") == 1
    assert "> learned: </span>" in shown()


def test_no_token_is_invisible():
    assert token_view.visible("a\n\t") == "a⏎⇥"
    assert token_view.visible("") == "·"


def test_ids_stand_in_a_list_that_can_be_read_aloud():
    assert '<table class="ids">' in shown()
    assert "learned, ends the answer</td>" in shown()


def test_very_long_rows_are_shown_in_part():
    long = [{"id": n, "text": "x", "role": "trained"} for n in range(token_view.MOST + 3)]
    page = shown(long)
    assert " and 3 more" in page
    assert f"{token_view.MOST + 3:,} of {token_view.MOST + 3:,} tokens are learned" in page


def test_the_chooser_stops_at_both_ends():
    assert 'aria-disabled="true"' in token_view.pager(1, 3)
    assert 'data-row="2"' in token_view.pager(1, 3)
    assert token_view.pager(2, 3).count('aria-disabled="true"') == 0


def test_a_row_that_is_left_out_says_so():
    assert "Nothing of this row is left" in token_view.part({"rows": []}, 2, 5)
