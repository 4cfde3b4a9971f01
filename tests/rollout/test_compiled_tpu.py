"""Rollout's programs for v5p chips, compiled by the real compiler.

libtpu cannot print a decode program: what can be known of it is its memory.
"""

import pytest
from compiled_programs import PROGRAMS, SHAPES, check_fit_and_cache_in_place

pytestmark = pytest.mark.compiled


@pytest.mark.parametrize("kind, size", PROGRAMS)
@pytest.mark.parametrize("model", SHAPES)
def test_programs_fit_and_update_the_cache_in_place(model, kind, size):
    check_fit_and_cache_in_place("v5p:2x2x1", model, kind, size)
