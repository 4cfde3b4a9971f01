import json

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.evaluation.results import (
    GREEDY,
    ProblemResult,
    ResultsFile,
    SolutionResult,
    TestResult,
)

SETTINGS = {"benchmark": "mbpp:x", "max_new_tokens": 256}
RESULT = ProblemResult(
    "mbpp/11",
    GREEDY,
    (SolutionResult("reply", "code", "", 7, True, ("PASSED", "FAILED"), False),),
    (
        TestResult(
            "reply", {"kind": "assert", "code": "assert f()"}, "", 5, True, True, (0, 2), 0.5
        ),
    ),
    4,
)


def test_results_come_back_as_they_were(tmp_path):
    with ResultsFile(tmp_path / "new" / "mbpp.jsonl", SETTINGS) as file:
        file.append(RESULT)
    with ResultsFile(tmp_path / "new" / "mbpp.jsonl", SETTINGS) as file:
        assert file.results == {(GREEDY, "mbpp/11"): RESULT}


def test_a_half_written_line_is_dropped_and_the_file_goes_on(tmp_path):
    path = tmp_path / "mbpp.jsonl"
    with ResultsFile(path, SETTINGS) as file:
        file.append(RESULT)
    path.write_text(path.read_text() + '{"task_id": "mbpp/12", "ru')
    with ResultsFile(path, SETTINGS) as file:
        file.append(ProblemResult("mbpp/12", GREEDY))
    with ResultsFile(path, SETTINGS) as file:
        assert [task_id for _, task_id in file.results] == ["mbpp/11", "mbpp/12"]


def test_every_result_is_on_disk_as_soon_as_it_is_known(tmp_path):
    path = tmp_path / "mbpp.jsonl"
    with ResultsFile(path, SETTINGS) as file:
        file.append(RESULT)
        lines = path.read_text().splitlines()
    assert json.loads(lines[0]) == {"settings": SETTINGS}
    assert json.loads(lines[1])["task_id"] == "mbpp/11"


def test_a_file_of_other_settings_is_refused_by_name_or_begun_anew(tmp_path):
    path = tmp_path / "mbpp.jsonl"
    with ResultsFile(path, SETTINGS) as file:
        file.append(RESULT)
    other = SETTINGS | {"max_new_tokens": 512}
    with pytest.raises(UserError, match="max_new_tokens: 256 there, 512 now"):
        ResultsFile(path, other)
    with ResultsFile(path, other, restart=True) as file:
        assert file.results == {}
