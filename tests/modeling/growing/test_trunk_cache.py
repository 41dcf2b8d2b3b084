"""A cached trunk gives the loss and the gradients of one that runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from modelforge.config.progressive.stages import Growth, stage_plans

pytestmark = pytest.mark.torch

(STAGE,) = stage_plans(Growth(base_layers=3, stages=1, layers_per_stage=1))


@pytest.fixture
def grown(build):
    """Return a function that builds a model with a frozen trunk of three layers."""

    def made(model_type="llama", **changes):
        import torch

        from modelforge.modeling.growing.freezing import prepare_stage
        from modelforge.modeling.growing.layers import decoder_layers, insert_layers

        model = build(model_type, **changes).train()
        insert_layers(model, 1)
        torch.nn.init.normal_(decoder_layers(model)[3].self_attn.o_proj.weight, std=0.5)
        prepare_stage(model, STAGE)
        return model

    return made


@pytest.fixture
def opened(tmp_path):
    """Return a function that opens the cache of a model and attaches it."""
    from modelforge.modeling.growing.trunk_cache import TrunkCache, trunk_key

    caches = []

    def made(model, *facts, limit=2**20):
        caches.append(TrunkCache(tmp_path, trunk_key(model, 3, *facts), limit_bytes=limit))
        caches[-1].attach(model, 3)
        return caches[-1]

    yield made
    for cache in caches:
        cache.close()


def padded(ids, lengths):
    """Return a batch of the first tokens of the rows, padded to the longest."""
    import torch

    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    rows = ids[:, : max(lengths)].where(mask, 0)
    return {
        "input_ids": rows,
        "attention_mask": mask.long(),
        "labels": rows.masked_fill(~mask, -100),
    }


def step(model, batch):
    """Return the loss and the gradients of the new layer."""
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    new = model.get_decoder().layers[3]
    return [loss.detach(), *(weight.grad.clone() for weight in new.parameters())]


def same(first, second):
    import torch

    return all(map(torch.equal, first, second))


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "nanochat", "deepseek_v3"])
def test_loss_and_gradients_are_those_without_a_cache(grown, ids, model_type, opened):
    model = grown(model_type)
    batch = padded(ids, (12, 7))
    expected = step(model, batch)
    cache = opened(model)
    assert same(step(model, batch), expected)
    assert (cache.hits, cache.misses) == (0, 1)
    runs = []
    for layer in model.get_decoder().layers[:3]:
        layer.mlp.register_forward_hook(lambda *_: runs.append(1))
    assert same(step(model, batch), expected)
    assert (cache.hits, cache.misses, runs) == (1, 1, [])
    cache.close()
    assert same(step(model, batch), expected)
    assert len(runs) == 3


def test_rows_are_found_in_other_batches_and_orders(grown, ids, opened):
    import torch

    model = grown()
    cache = opened(model)
    step(model, padded(ids, (12, 7)))
    batch = padded(ids.flip(0), (7, 12))
    loss = step(model, batch)[0]
    assert (cache.hits, cache.misses) == (1, 1)
    cache.detach()
    torch.testing.assert_close(loss, step(model, batch)[0], rtol=1e-6, atol=1e-6)
    # A row of other length is another row.
    cache.attach(model, 3)
    step(model, padded(ids, (12, 6)))
    assert (cache.hits, cache.misses) == (1, 2)


def test_positions_belong_to_a_row(grown, ids, opened):
    import torch

    model = grown()
    cache = opened(model)
    whole = {"input_ids": ids, "position_ids": torch.arange(12)[None]}
    packed = {"input_ids": ids, "position_ids": torch.arange(12)[None] % 6}
    with torch.no_grad():
        first, other = model(**whole).logits, model(**packed).logits
        assert torch.equal(model(**whole).logits, first)
        assert torch.equal(model(**packed).logits, other)
    assert not torch.equal(first, other)
    assert (cache.hits, cache.misses) == (2, 2)


@pytest.mark.parametrize("uses_cache", [False, True])
def test_packed_texts_are_found_in_other_rows_where_they_are_apart(grown, ids, opened, uses_cache):
    import torch

    def packed(*texts):
        positions = torch.cat([torch.arange(len(text)) for text in texts])[None]
        rows = torch.cat(texts)[None]
        batch = {"input_ids": rows, "position_ids": positions, "labels": rows}
        return {**batch, "use_cache": uses_cache}

    model = grown()
    a, b, c = ids[0, :5], ids[0, 5:], ids[1, :9]
    batches = [packed(b, a), packed(c, b, a), packed(c)]
    expected = [step(model, batch) for batch in batches]
    cache = opened(model)
    step(model, packed(a, b))
    step(model, packed(b, c))
    assert (cache.hits, cache.misses) == (0, 2)
    found = [step(model, batch) for batch in batches]
    # With a key-value cache, Transformers does not keep packed texts apart.
    assert (cache.hits, cache.misses) == ((0, 5) if uses_cache else (3, 2))
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_bfloat16_states_are_stored_as_they_are(grown, ids, opened, tmp_path):
    import torch

    model = grown(dtype=torch.bfloat16)
    batch = padded(ids, (12, 12))
    expected = step(model, batch)
    cache = opened(model)
    step(model, batch)
    assert same(step(model, batch), expected)
    assert cache.hits == 1
    assert cache.size_bytes == 2 * 12 * 16 * 2 == (tmp_path / "states.bin").stat().st_size


def test_the_cache_does_not_grow_over_its_limit(grown, ids, opened, tmp_path):
    model = grown()
    # Room for the first row: 12 tokens x width 16 x 4 bytes.
    cache = opened(model, limit=12 * 16 * 4 + 10)
    batch = padded(ids, (12, 7))
    expected = step(model, batch)
    assert same(step(model, batch), expected)
    assert (cache.hits, cache.misses) == (0, 2)
    assert cache.size_bytes == 12 * 16 * 4 == (tmp_path / "states.bin").stat().st_size
    step(model, padded(ids[:1], (12,)))
    assert cache.hits == 1


def test_rows_outlive_the_process_and_a_broken_write(grown, ids, opened, tmp_path):
    model = grown()
    batch = padded(ids, (12, 7))
    cache = opened(model)
    expected = step(model, batch)
    cache.close()
    size = cache.size_bytes
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"key": "ab')
    with (tmp_path / "states.bin").open("ab") as file:
        file.write(b"half a row")
    cache = opened(model)
    assert cache.size_bytes == size == (tmp_path / "states.bin").stat().st_size
    assert same(step(model, batch), expected)
    assert (cache.hits, cache.misses) == (1, 0)
    step(model, padded(ids, (11, 11)))
    cache.close()
    cache = opened(model)
    step(model, padded(ids, (11, 11)))
    assert (cache.hits, cache.misses) == (1, 0)
    cache.close()


def test_a_damaged_row_is_computed_again(grown, ids, opened, tmp_path):
    model = grown()
    batch = padded(ids, (12, 7))
    cache = opened(model)
    expected = step(model, batch)
    cache.close()
    with (tmp_path / "states.bin").open("r+b") as file:
        file.write(b"\xff" * 8)
    cache = opened(model)
    assert same(step(model, batch), expected)
    assert same(step(model, batch), expected)
    assert (cache.hits, cache.misses) == (1, 1)


def test_other_weights_data_and_templates_have_another_key(grown, build):
    import torch

    from modelforge.modeling.growing.trunk_cache import trunk_key

    model = grown()
    key = trunk_key(model, 3, "data", "template")
    assert trunk_key(grown(), 3, "data", "template") == key
    assert trunk_key(model, 3, "data", "other template") != key
    assert trunk_key(model, 2, "data", "template") != key
    with torch.no_grad():
        model.get_decoder().layers[3].mlp.up_proj.weight[0, 0] += 1
    assert trunk_key(model, 3, "data", "template") == key
    with torch.no_grad():
        model.get_decoder().layers[1].mlp.up_proj.weight[0, 0] += 1e-6
    assert trunk_key(model, 3, "data", "template") != key


def test_rows_of_another_key_are_deleted_and_other_files_are_not(grown, ids, opened, tmp_path):
    model = grown()
    (tmp_path / "notes.txt").write_text("kept")
    cache = opened(model, "data")
    step(model, padded(ids, (12, 7)))
    assert cache.size_bytes
    cache.close()
    cache = opened(model, "other data")
    assert cache.size_bytes == (tmp_path / "states.bin").stat().st_size == 0
    assert (tmp_path / "notes.txt").read_text() == "kept"


def test_generation_does_not_use_the_cache(grown, ids, opened):
    import torch

    model = grown().eval()
    expected = model.generate(ids, max_new_tokens=4, do_sample=False)
    cache = opened(model)
    step(model, padded(ids, (12, 12)))
    assert torch.equal(model.generate(ids, max_new_tokens=4, do_sample=False), expected)
    assert cache.hits == 0


def test_a_trunk_with_dropout_is_refused(grown, opened):
    model = grown(attention_dropout=0.1)
    with pytest.raises(ValueError, match="dropout"):
        opened(model)


def test_a_prepended_stack_has_no_trunk_to_cache():
    from modelforge.config.progressive.stages import Direction

    growth = Growth(base_layers=3, stages=1, layers_per_stage=1)
    (stage,) = stage_plans(replace(growth, direction=Direction.PREPEND))
    assert stage.first_saved_layer == 0
