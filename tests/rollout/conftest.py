"""compiled_programs.py is found beside the tests, its assertions as readable as theirs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("compiled_programs")
