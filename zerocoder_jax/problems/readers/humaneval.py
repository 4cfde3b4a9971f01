"""HumanEval as published, EvalPlus' HumanEval+ as JSON lines or as the hub's table.

Fields: ``task_id``, ``prompt`` (a signature with its docstring, and imports or helpers before
it), ``entry_point``, ``canonical_solution`` (continues the prompt), ``test`` (defines
``check(candidate)``) or EvalPlus' inputs. HumanEval has no splits.
"""

from zerocoder_jax.problems.problem import AssertTest, Problem
from zerocoder_jax.problems.readers.evalplus import hub_script, is_evalplus, plus_tests
from zerocoder_jax.problems.records import Record


def to_problem(record: Record) -> Problem:
    """One record of HumanEval or HumanEval+."""
    prompt = record.text("prompt")
    entry_point = record.text("entry_point")
    if is_evalplus(record):
        tests = plus_tests(record, base=True, preamble=prompt)
    else:
        script = hub_script(record.text("test")).strip()
        tests = (AssertTest(f"{script}\n\ncheck({entry_point})"),)
    return Problem(
        task_id=record.text("task_id"),
        prompt=prompt.strip(),
        entry_point=entry_point,
        kind="function",
        starter_code=prompt.strip(),
        reference_solution=prompt + record.text("canonical_solution"),
        reference_tests=tests,
        source="humaneval",
    )
