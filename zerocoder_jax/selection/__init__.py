"""Whom to believe: consensus selectors, their calibration, and the rank of a passing matrix.

Jitted functions of boolean arrays [problems, solutions, tests] with masks. This package knows
neither programs nor policies nor rewards: who passed what is all it is told, and labels reach it
only as the ``correct`` argument of ``calibrate_b4``.
"""

from zerocoder_jax.selection.calibration import Calibration, calibrate_b4
from zerocoder_jax.selection.rank import matrix_rank
from zerocoder_jax.selection.selectors import SELECTORS, Selection, select, text_ids

__all__ = [
    "SELECTORS",
    "Calibration",
    "Selection",
    "calibrate_b4",
    "matrix_rank",
    "select",
    "text_ids",
]
