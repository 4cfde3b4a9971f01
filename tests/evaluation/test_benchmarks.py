import json

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.evaluation import read_benchmarks


@pytest.fixture
def own(tmp_path):
    def write(name, *records):
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return f"jsonl:{path}"

    return write


LABELLED = {"task_id": "a", "prompt": "p", "reference_tests": [{"stdin": "", "stdout": "1"}]}


def test_benchmarks_are_named_after_their_format_and_numbered_when_it_repeats(own):
    first = own("first.jsonl", LABELLED, LABELLED | {"task_id": "b", "split": "train"})
    second = own("second.jsonl", LABELLED)
    benchmarks = read_benchmarks(f"{first}, {second},toy:test", limit=3)
    assert [benchmark.name for benchmark in benchmarks] == ["jsonl", "jsonl-2", "toy"]
    assert [len(benchmark.problems) for benchmark in benchmarks] == [1, 1, 3]


def test_a_split_can_be_named_in_place(own):
    source = own("own.jsonl", LABELLED, LABELLED | {"task_id": "b", "split": "train"})
    (benchmark,) = read_benchmarks(f"{source}@train")
    assert [problem.task_id for problem in benchmark.problems] == ["a", "b"]


def test_problems_without_labels_measure_nothing(own):
    with pytest.raises(UserError, match="there is nothing to measure by"):
        read_benchmarks(own("own.jsonl", {"task_id": "a", "prompt": "p"}))


def test_no_benchmarks_are_no_benchmarks():
    assert read_benchmarks("") == []
