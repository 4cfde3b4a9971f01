"""Measuring it: pass@1 of the Coder, accuracy and mutation score of the Tester, with intervals.

Uses labels, and is the only room besides calibration that does. Knows nothing of how the policy
was trained; the loop hands it an engine and a pool.
"""

from zerocoder_jax.evaluation.benchmarks import Benchmark, read_benchmarks
from zerocoder_jax.evaluation.during_training import training_evaluation, write_summary
from zerocoder_jax.evaluation.measures import bootstrap_interval, pass_at_k
from zerocoder_jax.evaluation.measuring import EvaluationSettings, evaluate
from zerocoder_jax.evaluation.results import ProblemResult, ResultsFile
from zerocoder_jax.evaluation.scores import Score, benchmark_scores, table_row

__all__ = [
    "Benchmark",
    "EvaluationSettings",
    "ProblemResult",
    "ResultsFile",
    "Score",
    "benchmark_scores",
    "bootstrap_interval",
    "evaluate",
    "pass_at_k",
    "read_benchmarks",
    "table_row",
    "training_evaluation",
    "write_summary",
]
