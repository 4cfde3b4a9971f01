"""The toy problems: what training and testing share and do not, and who writes the corpus."""

import ast
import os
import random
import subprocess
import sys

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems import AssertTest
from zerocoder_jax.problems.coder_replies import parse_solution
from zerocoder_jax.problems.tester_replies import parse_test
from zerocoder_jax.problems.toy import SEEN_FAMILIES, UNSEEN_FAMILIES, Authors, read_toy
from zerocoder_jax.problems.toy.grammar import Instance
from zerocoder_jax.problems.toy.reading import instances, split_wordings

CAREFUL = Authors(hasty=0.0, careful_error=0.0, malformed=0.0)
HASTY = Authors(hasty=1.0, trivial=0.0, malformed=0.0)


@pytest.fixture(scope="module")
def problems():
    return {split: read_toy(split) for split in ("train", "test")}


def passes(code: str, tests) -> bool:
    """Whether a program of the generator's own making passes the tests."""
    names: dict = {}
    try:
        exec(code, names)
        for test in tests:
            exec(test.code, names)
    except Exception:
        return False
    return True


def family_of(problem) -> str:
    return "/".join(problem.task_id.split("/")[2:5])


def test_there_are_at_least_sixty_families_and_some_are_never_seen():
    assert len(SEEN_FAMILIES) >= 60
    assert len(UNSEEN_FAMILIES) >= 10
    assert not {f.name for f in SEEN_FAMILIES} & {f.name for f in UNSEEN_FAMILIES}


def test_phrases_of_unseen_families_are_seen_in_other_families():
    parts = {(family.domain.name, family.part.name) for family in SEEN_FAMILIES}
    finals = {(family.domain.name, family.final.name) for family in SEEN_FAMILIES}
    for family in UNSEEN_FAMILIES:
        assert (family.domain.name, family.part.name) in parts
        assert (family.domain.name, family.final.name) in finals


def test_no_statement_is_in_both_splits(problems):
    train, test = ({p.prompt for p in problems[split]} for split in ("train", "test"))
    assert not train & test


def test_training_has_no_family_that_is_kept_for_testing(problems):
    unseen = {family.name for family in UNSEEN_FAMILIES}
    assert not {family_of(p) for p in problems["train"]} & unseen
    assert {family_of(p) for p in problems["test"] if p.difficulty == "unseen"} == unseen


def test_testing_has_other_parameters_where_a_family_has_parameters():
    trained = {instance.name for instance, _ in instances("train")}
    for instance, _ in instances("test"):
        if len(instance.family.parameters) > 1:
            assert instance.name not in trained
        else:
            assert not set(split_wordings(instance, "train")) & set(
                split_wordings(instance, "test")
            )


def test_the_corpus_never_shows_a_test_wording_of_a_trained_instance():
    for instance, _ in instances("train"):
        train, test = split_wordings(instance, "train"), split_wordings(instance, "test")
        assert train and test and not set(train) & set(test)
        assert set(train) | set(test) == set(instance.wordings())


def test_every_reference_solution_passes_its_tests(problems):
    for problem in problems["train"] + problems["test"]:
        assert passes(problem.reference_solution, problem.reference_tests), problem.task_id


def test_reference_tests_refuse_every_mistake_that_shows(problems):
    """Only what small arguments cannot tell apart may slip through."""
    refused = total = 0
    by_name = {i.name: i for i, _ in instances("test")}
    for problem in problems["test"]:
        instance = by_name["/".join(problem.task_id.split("/")[2:-1])]
        for mistake in instance.mistakes:
            total += 1
            refused += not passes(mistake.in_one_line, problem.reference_tests)
    assert refused / total > 0.95


def test_task_ids_are_unique(problems):
    for split in problems.values():
        assert len({p.task_id for p in split}) == len(split)


def test_the_same_seed_gives_the_same_problems_in_another_process(problems):
    """Down to the last reference test, though sets of letters have another order in each."""
    program = "from zerocoder_jax.problems.toy import read_toy; print(read_toy('{}', seed=0))"
    for split, read in problems.items():
        for hash_seed in "123":
            printed = subprocess.run(
                [sys.executable, "-c", program.format(split)],
                env=os.environ | {"PYTHONHASHSEED": hash_seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert printed.strip() == repr(read)
    assert read_toy("test", 9, seed=4) != read_toy("test", 9, seed=3)


def test_a_limit_takes_the_first_problems(problems):
    assert read_toy("train", limit=5) == problems["train"][:5]


def test_another_split_is_refused():
    with pytest.raises(UserError, match="toy:validation"):
        read_toy("validation")


def test_careful_authors_are_right_in_both_roles(problems):
    source = random.Random(0)
    by_name = {i.name: i for i, _ in instances("test")}
    for problem in problems["test"]:
        instance = by_name["/".join(problem.task_id.split("/")[2:-1])]
        solution = parse_solution(CAREFUL.coder_reply(instance, source), problem)
        assert solution.code and passes(solution.code, problem.reference_tests)
        test = parse_test(CAREFUL.tester_reply(instance, source), problem).test
        assert isinstance(test, AssertTest) and passes(problem.reference_solution, [test])


def test_hasty_authors_are_often_wrong_but_write_python(problems):
    source = random.Random(0)
    by_name = {i.name: i for i, _ in instances("test")}
    right = {"solution": 0, "test": 0}
    for problem in problems["test"]:
        instance = by_name["/".join(problem.task_id.split("/")[2:-1])]
        solution = parse_solution(HASTY.coder_reply(instance, source), problem)
        right["solution"] += passes(solution.code, problem.reference_tests)
        test = parse_test(HASTY.tester_reply(instance, source), problem).test
        right["test"] += passes(problem.reference_solution, [test])
    count = len(problems["test"])
    assert 0.25 * count < right["solution"] < 0.65 * count
    assert 0.1 * count < right["test"] < 0.5 * count


def test_malformed_replies_break_off():
    instance = next(instance for instance, _ in instances("train"))
    authors = Authors(malformed=1.0)
    source = random.Random(1)
    broken = 0
    for _ in range(50):
        code = authors.tester_reply(instance, source).removeprefix("```python\n")[:-4]
        try:
            ast.parse(code)
        except SyntaxError:
            broken += 1
    assert broken > 25


def test_code_in_one_line_and_in_two_steps_computes_the_same():
    source = random.Random(2)
    for family in (*SEEN_FAMILIES, *UNSEEN_FAMILIES):
        instance = Instance(family, *source.choice(family.parameters))
        tests = [AssertTest(CAREFUL.tester_reply(instance, source)[10:-4]) for _ in range(5)]
        assert passes(instance.solution.in_one_line, tests), instance.name
        assert passes(instance.solution.in_two_steps, tests), instance.name
