"""PrimeIntellect's verifiable-coding-problems and SYNTHETIC-1 (parquet or JSON lines).

Fields: ``problem_id``, ``task_type``, ``prompt``, ``gold_standard_solution`` (in a code fence),
``verification_info`` (a text, JSON or Python: ``language`` and ``test_cases``, each with ``type``
``stdin_stdout`` or ``function_call``, ``input``, ``output`` and perhaps ``fn_name``).

SYNTHETIC-1 has a record for each reply of a model, and other tasks than code: a problem is read
once, and problems that are no code, in another language than Python, or with several right answers
(``unjudgeable.py``) are passed over. The tests are APPS' and are judged as there.
"""

from typing import Any

from zerocoder_jax.problems.fences import fenced_blocks
from zerocoder_jax.problems.problem import Problem
from zerocoder_jax.problems.readers.apps import judged_tests
from zerocoder_jax.problems.readers.input_output import python_or_json
from zerocoder_jax.problems.readers.starter_code import entry_point_in
from zerocoder_jax.problems.readers.unjudgeable import is_unjudgeable
from zerocoder_jax.problems.records import Record

# What the data set puts around every statement.
_BEFORE = "Solve the following coding problem using the programming language python:"
_AFTER = "Now solve the problem and return the code."


def to_problem(record: Record) -> Problem | None:
    """One record; None for a task that is not Python code, or that outputs cannot judge."""
    if record.text("task_type", "verifiable_code") != "verifiable_code":
        return None
    info = record.fields.get("verification_info")
    if isinstance(info, str):
        info = python_or_json(record, info, "verification_info")
    if not isinstance(info, dict):
        raise record.malformed("'verification_info' must hold an object")
    if info.get("language", "python") != "python" or is_unjudgeable(record.text("prompt")):
        return None
    cases = _cases(record, info)
    function = cases["fn_name"]
    reference = _code(record.text("gold_standard_solution", ""))
    prompt = record.text("prompt").strip()
    return Problem(
        task_id=f"verifiable_coding/{record.text('problem_id')}",
        prompt=prompt.removeprefix(_BEFORE).removesuffix(_AFTER).strip(),
        entry_point=entry_point_in("", function, reference) if function else None,
        kind="function" if function else "stdio",
        reference_solution=reference or None,
        reference_tests=judged_tests(record, cases, "verification_info"),
        source="verifiable_coding",
    )


def _cases(record: Record, info: dict[str, Any]) -> dict[str, Any]:
    """The tests as parallel lists, as APPS has them."""
    cases = info.get("test_cases")
    if isinstance(cases, str):
        cases = python_or_json(record, cases, "test_cases")
    match cases:
        case {"inputs": list(inputs), "outputs": list(outputs), **others}:
            name = others.get("fn_name") or info.get("fn_name")
            return {"fn_name": name, "inputs": inputs, "outputs": outputs}
        case list() if all(
            isinstance(case, dict) and {"input", "output"} <= case.keys() for case in cases
        ):
            names = {case.get("fn_name") for case in cases}
            if len(names) > 1:
                raise record.malformed(f"tests call several functions: {sorted(map(str, names))}")
            return {
                "fn_name": next(iter(names), None),
                "inputs": [case["input"] for case in cases],
                "outputs": [case["output"] for case in cases],
            }
    raise record.malformed("'test_cases' must be a list of objects with 'input' and 'output'")


def _code(text: str) -> str:
    blocks = [block for block in fenced_blocks(text) if block.python]
    return blocks[0].text if blocks else text
