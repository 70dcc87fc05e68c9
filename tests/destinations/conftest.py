"""What the tests are told by `scripts/test-sdk`."""

import os
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Places:
    """Base URL of the demo's model, without a path."""

    model: str


@pytest.fixture(scope="session")
def places():
    return Places(model=os.environ["SDK_MODEL_URL"])
