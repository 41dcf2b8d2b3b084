"""Checks of trainings from nothing."""

from __future__ import annotations

import pytest

from tests.preflight.contexts import findings_of, make_context

NOTHING = {"pretraining.enabled": True, "model_name": "", "adapter.enabled": False}


@pytest.mark.parametrize(
    ("frozen", "tied", "is_warned"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_borrowed_embeddings_as_the_head_are_warned_of(frozen, tied, is_warned):
    group = {"pretraining.freeze_embeddings": frozen, "pretraining.tie_embeddings": tied}
    found = findings_of(make_context().with_settings({**NOTHING, **group}))
    warned = [each for each in found if each.code == "head-frozen"]
    assert bool(warned) == is_warned
    if warned:
        assert (warned[0].where, warned[0].suggested) == ("pretraining.tie_embeddings", False)
