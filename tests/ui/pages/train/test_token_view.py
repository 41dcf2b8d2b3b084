"""The token view: colors, counts and ids, and no token is markup."""

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


def test_every_role_has_a_color_and_every_token_its_id():
    page = shown()
    for class_, number in (("m", 2), ("t", 3), ("e", 4), ("c", 5), ("p", 0)):
        assert f'<span class="{class_}" title="id {number}">' in page


def test_a_token_is_never_markup():
    assert "<b>" not in shown()
    assert "&lt;b&gt;" in shown()


def test_padding_is_not_counted_and_the_end_is_trained():
    text = token_view.summary(PIECES, 17)
    assert text.startswith("Row 17 as it is trained. Grey is read but not trained,")
    assert text.endswith("2 of 5 tokens are trained.")


def test_only_colors_that_occur_are_explained():
    assert "padding" not in token_view.summary(PIECES[:4], 1)
    assert "truncated" not in token_view.summary(PIECES[:4], 1)


def test_a_group_is_named_once_for_screen_readers():
    assert shown().count("> masked: </span>") == 1
    assert "> trained: </span>" in shown()


def test_every_token_is_visible():
    assert token_view.visible("a\n\t") == "a⏎⇥"
    assert token_view.visible("") == "·"


def test_ids_are_in_a_table():
    assert '<div class="table ids"' in shown()
    assert "trained, ends the answer</td>" in shown()


def test_very_long_rows_are_truncated():
    long = [{"id": n, "text": "x", "role": "trained"} for n in range(token_view.MAX_TOKENS + 3)]
    page = shown(long)
    assert " and 3 more" in page
    assert (
        f"{token_view.MAX_TOKENS + 3:,} of {token_view.MAX_TOKENS + 3:,} tokens are trained" in page
    )


def test_the_pager_stops_at_both_ends():
    assert 'aria-disabled="true"' in token_view.pager(1, 3)
    assert 'data-row="2"' in token_view.pager(1, 3)
    assert token_view.pager(2, 3).count('aria-disabled="true"') == 0


def test_a_row_without_trained_tokens_is_explained():
    assert "No token of this row is trained" in token_view.part({"rows": []}, 2, 5)
