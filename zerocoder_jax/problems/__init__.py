"""What is to be solved: problems, their tests, their readers, the roles' prompts and replies.

Knows nothing of models, of JAX or of how programs are run.
"""

from zerocoder_jax.problems.coder_replies import ParsedSolution, parse_solution
from zerocoder_jax.problems.copied_tests import is_copied
from zerocoder_jax.problems.fences import without_thought
from zerocoder_jax.problems.labels import LabelsTouched, without_labels
from zerocoder_jax.problems.problem import AssertTest, CallTest, Problem, StdioTest, Test
from zerocoder_jax.problems.prompts import begun_reply, coder_prompt, tester_prompt
from zerocoder_jax.problems.readers import ProblemList, read_problems
from zerocoder_jax.problems.records import MalformedRecord
from zerocoder_jax.problems.tester_replies import ParsedTest, parse_test

__all__ = [
    "AssertTest",
    "CallTest",
    "LabelsTouched",
    "MalformedRecord",
    "ParsedSolution",
    "ParsedTest",
    "Problem",
    "ProblemList",
    "StdioTest",
    "Test",
    "begun_reply",
    "coder_prompt",
    "is_copied",
    "parse_solution",
    "parse_test",
    "read_problems",
    "tester_prompt",
    "without_labels",
    "without_thought",
]
