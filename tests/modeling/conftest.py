"""Fixtures shared with the tests of training: tiny models and runs on them."""

from tests.train.conftest import bench, tiny_model, tiny_reader, write_rows

__all__ = ["bench", "tiny_model", "tiny_reader", "write_rows"]
