import copy
import dataclasses
import pickle

import pytest

from zerocoder_jax.problems import AssertTest, LabelsTouched, Problem, prompts, without_labels

LABELLED = Problem(
    "t/1",
    "Return twice the number.",
    "double",
    "function",
    starter_code="def double(n):",
    reference_solution="def double(n): return 2 * n",
    reference_tests=(AssertTest("assert double(1) == 2"),),
)


@pytest.mark.parametrize("label", ["reference_solution", "reference_tests"])
def test_reading_a_label_raises_and_names_the_problem(label):
    with pytest.raises(LabelsTouched, match=f"t/1: {label}"):
        getattr(without_labels(LABELLED), label)


def test_everything_else_is_the_same_problem():
    problem = without_labels(LABELLED)
    assert isinstance(problem, Problem)
    for field in dataclasses.fields(Problem):
        if not field.name.startswith("reference"):
            assert getattr(problem, field.name) == getattr(LABELLED, field.name)
    assert prompts.coder_prompt(problem) == prompts.coder_prompt(LABELLED)
    assert prompts.tester_prompt(problem) == prompts.tester_prompt(LABELLED)


def test_printing_comparing_hashing_and_copying_leave_the_labels_alone():
    problem = without_labels(LABELLED)
    assert "t/1" in repr(problem)
    assert "2 * n" not in repr(problem)
    for twin in (without_labels(LABELLED), pickle.loads(pickle.dumps(problem)), copy.copy(problem)):
        assert twin == problem
        assert hash(twin) == hash(problem)
        with pytest.raises(LabelsTouched):
            _ = twin.reference_tests
    assert problem != LABELLED
    assert b"2 * n" not in pickle.dumps(problem)


def test_changing_or_unfolding_it_is_refused():
    problem = without_labels(LABELLED)
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.prompt = "another"
    with pytest.raises(LabelsTouched):
        dataclasses.replace(problem, prompt="another")
    with pytest.raises(LabelsTouched):
        dataclasses.asdict(problem)
