"""Weight files that are not whole, or that hold no numbers, are found by their first look."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from modelforge.errors import ForgeError
from modelforge.models.safetensors_index import INDEX, SINGLE, WeightsInfo, read_weights

WEIGHTS = {"a.weight": np.ones((4, 3), np.float32), "b.weight": np.ones((300, 2), np.float16)}


def read(folder: Path) -> WeightsInfo:
    return read_weights(folder, {path.name: path.stat().st_size for path in folder.iterdir()})


def refusal(folder: Path) -> str:
    with pytest.raises(ForgeError) as raised:
        read(folder)
    [problem] = raised.value.problems
    assert problem.remedy
    return problem.what


def shards(folder: Path, index: dict[str, str] | None) -> Path:
    for number, (name, tensor) in enumerate(WEIGHTS.items(), 1):
        save_file({name: tensor}, str(folder / f"model-0000{number}-of-00002.safetensors"))
    if index is not None:
        (folder / INDEX).write_text(json.dumps({"weight_map": index}), "utf-8")
    return folder


def test_the_shapes_of_all_tensors_are_read(tmp_path: Path):
    save_file(WEIGHTS, str(tmp_path / SINGLE))
    info = read(tmp_path)
    assert info.shapes == {"a.weight": (4, 3), "b.weight": (300, 2)}
    assert (info.parameters, info.broken) == (612, "")


@pytest.mark.parametrize("share", [0.5, 0.999, 2])
def test_a_file_of_another_size_than_its_header_says_is_refused(tmp_path: Path, share: float):
    path = tmp_path / SINGLE
    save_file(WEIGHTS, str(path))
    content = path.read_bytes()
    path.write_bytes((content * 2)[: int(len(content) * share)])
    assert f"instead of {len(content):,}" in refusal(tmp_path)


def test_shards_without_an_index_are_refused(tmp_path: Path):
    assert f"{INDEX} is missing" in refusal(shards(tmp_path, None))


def test_a_single_file_of_another_name_is_refused(tmp_path: Path):
    save_file(WEIGHTS, str(tmp_path / "weights.safetensors"))
    assert "weights.safetensors, not model.safetensors" in refusal(tmp_path)


def test_a_tensor_of_the_index_that_no_file_holds_is_refused(tmp_path: Path):
    first, second = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    index = {"a.weight": first, "b.weight": second}
    assert read(shards(tmp_path, index)).parameters == 612
    assert "first c.weight" in refusal(shards(tmp_path, {**index, "c.weight": first}))


@pytest.mark.parametrize(("value", "found"), [(np.nan, "b.weight"), (np.inf, ""), (-np.inf, "")])
@pytest.mark.parametrize("at", [(0, 0), (-1, -1)])
def test_nan_at_the_ends_of_a_tensor_is_found(tmp_path: Path, value, found, at):
    weights = {name: tensor.copy() for name, tensor in WEIGHTS.items()}
    weights["b.weight"][at] = value
    save_file(weights, str(tmp_path / SINGLE))
    assert read(tmp_path).broken == found
