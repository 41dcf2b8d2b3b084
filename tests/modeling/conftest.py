"""Fixtures shared with the tests of training: tiny models and runs on them."""

from tests.train.conftest import bench, tiny_model, write_rows

__all__ = ["bench", "tiny_model", "write_rows"]
