"""Our own JSON lines, and what a person is told about a bad one."""

import json

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems import AssertTest, CallTest, StdioTest, read_problems

DOUBLE = {
    "task_id": "double",
    "prompt": "Return twice the number.",
    "entry_point": "double",
    "starter_code": "def double(number):",
    "reference_tests": [
        "assert double(4) == 8",
        {"code": "assert double(x) == 2", "setup": "x = 1"},
        {"arguments": [3], "expected": 6},
    ],
}
ECHO = {
    "task_id": "echo",
    "prompt": "Print the input.",
    "reference_tests": [{"stdin": "a\n", "stdout": "a\n"}],
    "split": "test",
}


def without(field):
    return {name: value for name, value in DOUBLE.items() if name != field}


@pytest.fixture
def read(tmp_path):
    def read_lines(*lines, **arguments):
        path = tmp_path / "own.jsonl"
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
        return read_problems(f"jsonl:{path}", **arguments)

    return read_lines


def test_functions_and_programs_are_told_apart_by_the_entry_point(read):
    double, echo = read(DOUBLE, "", ECHO, split="all")
    assert (double.kind, double.entry_point) == ("function", "double")
    assert double.reference_tests == (
        AssertTest("assert double(4) == 8"),
        AssertTest("assert double(x) == 2", "x = 1"),
        CallTest((3,), 6),
    )
    assert (echo.kind, echo.entry_point) == ("stdio", None)
    assert echo.reference_tests == (StdioTest("a\n", "a\n"),)


def test_two_fields_are_enough_for_training_without_labels(read):
    (problem,) = read({"task_id": "t", "prompt": "Print 1."})
    assert (problem.reference_solution, problem.reference_tests) == (None, ())


def test_records_without_a_split_belong_to_every_split(read):
    assert [p.task_id for p in read(DOUBLE, ECHO, split="train")] == ["double"]
    assert [p.task_id for p in read(DOUBLE, ECHO, split="test")] == ["double", "echo"]


def test_a_limit_takes_the_first(read):
    assert [p.task_id for p in read(DOUBLE, ECHO, split="all", limit=1)] == ["double"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{not json", "is not valid JSON"),
        ("[1, 2]", "expected a JSON object, found list"),
        ({"prompt": "p"}, "field 'task_id' is missing"),
        ({"task_id": 3, "prompt": "p"}, "field 'task_id' must be a text, found int"),
        ({"task_id": "t", "prompt": "  "}, "must not be empty"),
        (
            without("entry_point") | {"entrypoint": "double"},
            "unknown field 'entrypoint'; did you mean",
        ),
        (
            without("reference_tests") | {"tests": []},
            "unknown field 'tests'; did you mean 'reference_tests'?",
        ),
        (DOUBLE | {"kind": "program"}, "'kind' must be"),
        (DOUBLE | {"kind": "stdio"}, "functions need an 'entry_point'"),
        (DOUBLE | {"entry_point": "not a name"}, "'entry_point' must be a name"),
        (
            DOUBLE | {"reference_tests": "assert double(1) == 2"},
            "field 'reference_tests' must be a list",
        ),
        (DOUBLE | {"reference_tests": [{"stdin": "1", "stdout": "2"}]}, "a test of a function is"),
        (ECHO | {"reference_tests": ["assert True"]}, "a test of a whole program is"),
        (DOUBLE | {"reference_tests": ["assert double(1) = 2"]}, "a test is no Python"),
        (DOUBLE | {"reference_tests": ["double(1) == 2"]}, "a test without an assert passes every"),
        (DOUBLE | {"reference_tests": ["assert 1 + 1 == 2"]}, "a test never calls double"),
        (DOUBLE | {"reference_solution": "def triple(n): ..."}, "does not define double"),
        (DOUBLE | {"reference_solution": "def double(n) ..."}, "'reference_solution' is no Python"),
        (ECHO | {"reference_solution": "print(input("}, "'reference_solution' is no Python"),
        (DOUBLE, "task_id 'double' stands already in"),
    ],
)
def test_a_malformed_record_names_file_line_and_what_is_wrong(read, line, what):
    with pytest.raises(UserError) as error:
        read(DOUBLE, line, split="all")
    message = str(error.value)
    assert "own.jsonl, line 2: " in message
    assert what in message


@pytest.mark.parametrize(
    "extra",
    ["url", "tests", "entrypoint", "prompt_tokens", "starter_code_cpp", "id", "solution_of"],
)
def test_fields_of_other_tools_do_no_harm(read, extra):
    assert read(DOUBLE | {extra: "x"}, split="all")[0].task_id == "double"


def test_whole_numbers_may_have_any_length(read):
    digits = "7" * 5000
    test = '{"arguments": [' + digits + '], "expected": -' + digits + "}"
    line = json.dumps(DOUBLE | {"reference_tests": ["TEST"]}).replace('"TEST"', test)
    (problem,) = read(line)
    assert problem.reference_tests[0].arguments[0] % 10**9 == 777777777


def test_of_two_misspelt_fields_the_first_is_named(read):
    for first, second in (("startercode", "dificulty"), ("dificulty", "startercode")):
        with pytest.raises(UserError, match=f"unknown field '{first}'"):
            read({"mine": 1} | without("starter_code") | {first: "", second: ""})


def test_malformed_records_can_be_skipped_and_are_counted(read):
    problems = read(DOUBLE, "{", {"task_id": "x"}, ECHO, split="all", skip_malformed=True)
    assert [problem.task_id for problem in problems] == ["double", "echo"]
    assert len(problems.malformed) == 2
    assert "own.jsonl, line 2" in problems.malformed[0]


@pytest.mark.parametrize(
    ("source", "split", "what"),
    [
        ("nosuch:here", "train", "expected format:PATH with one of mbpp, "),
        ("jsonl", "train", "expected format:PATH"),
        ("jsonl:no/such/file/at all", "train", "no such file or directory"),
        ("mbpp:{file}", "dev", "no split 'dev'; mbpp has prompt, test, validation, train and all"),
        ("jsonl:{folder}", "train", "a directory without .jsonl"),
        ("jsonl:{file}", "train", "no problems in split 'train'; format:PATH@SPLIT names another"),
    ],
)
def test_a_source_that_leads_nowhere_is_explained(tmp_path, source, split, what):
    file = tmp_path / "file.jsonl"
    file.write_text("\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UserError, match=what.replace("(", r"\(")):
        read_problems(source.format(file=file, folder=folder), split=split)


def test_a_damaged_file_is_an_error_of_the_file(tmp_path):
    damaged = tmp_path / "problems.jsonl.gz"
    damaged.write_bytes(b"\x1f\x8b\x08 nothing")
    with pytest.raises(UserError, match=r"problems\.jsonl\.gz: cannot be read"):
        read_problems(f"jsonl:{damaged}")
    with_no_pyarrow_table = tmp_path / "problems.parquet"
    with_no_pyarrow_table.write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match=r"problems\.parquet: "):
        read_problems(f"jsonl:{with_no_pyarrow_table}")


def test_the_documented_example_is_read_as_documented(repository, read):
    page = (repository / "docs" / "problems.md").read_text(encoding="utf-8")
    example = page.split("```json\n")[1].split("```")[0].splitlines()
    double, echo = read(*example)
    assert double.reference_tests == (AssertTest("assert double(4) == 8"),)
    assert echo.reference_tests == (StdioTest("abc\n", "ABC\n"),)


def test_text_that_cannot_be_written_down_is_malformed(read):
    with pytest.raises(UserError, match="line 1: field 'prompt' holds half a character"):
        read('{"task_id": "t", "prompt": "\\ud83d"}')
