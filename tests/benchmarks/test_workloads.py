"""What the benchmarks measure is real, and what they print can be read by a program."""

import json
import os
import subprocess
import sys

import jax
import numpy as np

from zerocoder_jax.benchmarks.recorded import RECORDED_REPLIES, read_replies, recorded_lengths
from zerocoder_jax.benchmarks.rollout import peaked
from zerocoder_jax.benchmarks.verifier import read_step, with_loops
from zerocoder_jax.policy import PolicyConfig, init_policy
from zerocoder_jax.rollout import EngineSettings, RolloutEngine, SamplingSettings


def test_the_recorded_step_has_the_papers_size_and_nearly_every_reply_is_usable():
    step = read_step(RECORDED_REPLIES)
    assert len(step) == 32
    solutions = [one for samples in step for one in samples.solutions]
    tests = [one for samples in step for one in samples.tests]
    assert len(solutions) == len(tests) == 256
    assert sum(one is not None for one in solutions) > 0.95 * 256
    assert sum(one is not None for one in tests) > 0.95 * 256


def test_endless_loops_take_the_place_of_as_many_solutions_as_asked_for():
    step = read_step(RECORDED_REPLIES)
    spoiled = with_loops(step, 0.05)
    differing = sum(
        ours != theirs
        for before, after in zip(step, spoiled)
        for ours, theirs in zip(before.solutions, after.solutions)
    )
    assert differing == round(0.05 * 256)


def test_recorded_lengths_begin_again_when_more_are_wanted_than_there_are():
    records = read_replies()
    few, many = recorded_lengths(4, 8), recorded_lengths(200, 12)
    assert few.replies[0].tolist() == records[0]["solutions_tokens"]
    assert few.replies[1].tolist() == records[0]["tests_tokens"]
    assert many.prompts.shape == (200,) and many.replies.shape == (200, 12)
    np.testing.assert_array_equal(many.prompts[:4], few.prompts)
    assert many.prompts[64] == many.prompts[0]
    assert many.replies.min() >= 1 and many.replies.max() <= 2048


def test_a_synthetic_policy_is_peaked_like_a_real_one_and_a_random_one_is_flat():
    config = PolicyConfig(
        vocab_size=151_936,
        hidden_size=32,
        intermediate_size=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=16,
        qkv_bias=True,
        tie_embeddings=True,
    )
    sampling = SamplingSettings(temperature=0.7, top_p=0.8, max_new_tokens=8)
    policy = init_policy(config, jax.random.key(0))
    searched = {}
    for name, params in (("flat", policy.params), ("peaked", peaked(policy.params, config, 0.7))):
        engine = RolloutEngine(policy, sampling, EngineSettings(rows=2, max_prompt_tokens=8))
        engine.load(params)
        keys = np.arange(4, dtype=np.uint32).reshape(2, 2)
        assert len(list(engine.generate([[1, 2, 3]], 2, keys))) == 2
        searched[name] = engine.statistics.searched_steps / engine.statistics.steps
    assert searched == {"flat": 1.0, "peaked": 0.0}


def test_a_benchmark_ends_with_one_line_of_json(repository):
    made = subprocess.run(
        [sys.executable, "launch/benchmark.py", "selectors", "--config=configs/toy.py"],
        cwd=repository,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    result = json.loads(made.stdout.splitlines()[-1])
    assert result["grid_pairs"] == 35
    assert set(result["matrices_per_second"]) == {"max_pass", "codet", "b4", "rank"}
