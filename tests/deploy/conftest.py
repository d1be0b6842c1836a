"""Tests that are one story: each goes on from what those before it left."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def failed_before(request: pytest.FixtureRequest) -> int:
    return request.session.testsfailed


@pytest.fixture
def the_story_goes_on(request: pytest.FixtureRequest, failed_before: int) -> None:
    """Leaves out what comes after a failure in the same file."""
    if request.session.testsfailed > failed_before:
        pytest.skip("a test before it failed, and this one needs what that leaves")
