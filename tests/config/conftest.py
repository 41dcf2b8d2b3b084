import pytest


@pytest.fixture
def minimal():
    """The four answers that every body needs."""
    return {
        "task": "text-generation",
        "model_name": "starter",
        "dataset": "sample:captain",
        "compute_specs": "low_end",
    }
