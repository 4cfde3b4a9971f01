"""Compiling what a run can need before its first step, so that no later step waits for a compiler.

Which programs a step runs depends on what it draws and samples: on its longest prompt, on how fast
its replies end, on how long the sequences with an advantage are. What all of them together can need
is known at the start: the prompts are there, and the config bounds the rest.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from zerocoder_jax.rollout import Demand, RolloutEngine
from zerocoder_jax.training.update import PolicyUpdate


def compile_ahead(
    engine: RolloutEngine, update: PolicyUpdate, steps: Demand, evaluation: Demand | None
) -> float:
    """Compile the programs of rollout and update, side by side; returns the seconds it took.

    Args:
        steps: what training steps ask of the engine; the update trains on the same sequences.
        evaluation: what evaluations ask of the same engine, whose programs serve both: made for
            steps alone, they would be replaced by larger ones at the first evaluation.
    """
    began = time.perf_counter()
    shortest = min(steps.prompt_lengths) + 1
    longest = max(steps.prompt_lengths) + steps.max_new_tokens
    beside = ThreadPoolExecutor(1)
    try:
        updating = beside.submit(update.warm_up, shortest, longest)
        engine.warm_up(steps if evaluation is None else steps | evaluation)
        updating.result()
    finally:
        # A run that is asked to stop does not wait for a compiler.
        beside.shutdown(wait=False, cancel_futures=True)
    return time.perf_counter() - began
