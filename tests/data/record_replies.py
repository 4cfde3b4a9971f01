"""Records real replies of a policy, for the verifier's benchmark and the schedule's tests.

    python tests/data/record_replies.py gguf:MODEL.gguf mbpp:mbpp.jsonl OUTPUT.jsonl.gz

With Qwen2.5-Coder-0.5B-Instruct and MBPP this made tests/data/recorded_replies.jsonl.gz: 8
solutions and 8 tests for each of 32 problems of the train split, at temperature 0.7 and top-p 0.8,
at most 2048 new tokens. A line holds the replies of one problem and the lengths of prompts and
replies in tokens.
"""

import argparse
import gzip
import json
import random
import time
from pathlib import Path

import numpy as np

from zerocoder_jax.policy import load_policy
from zerocoder_jax.problems import coder_prompt, read_problems, tester_prompt
from zerocoder_jax.rollout import EngineSettings, RolloutEngine, SamplingSettings, sample_key

PROBLEMS = 32
SAMPLES = 8
SAMPLING = SamplingSettings(temperature=0.7, top_p=0.8, max_new_tokens=2048)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", help="as config.policy.source")
    parser.add_argument("problems", help="as config.problems.source")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()

    problems = list(read_problems(arguments.problems, split="train"))
    problems = random.Random(0).sample(problems, PROBLEMS)
    policy = load_policy(arguments.policy)
    prompts = [
        policy.tokenizer.chat_tokens(write(problem))
        for problem in problems
        for write in (coder_prompt, tester_prompt)
    ]
    settings = EngineSettings(rows=64, max_prompt_tokens=max(map(len, prompts)))
    engine = RolloutEngine(policy, SAMPLING, settings)
    engine.load(policy.params)
    keys = [
        sample_key(0, 0, number, role, sample)
        for number in range(PROBLEMS)
        for role in range(2)
        for sample in range(SAMPLES)
    ]
    replies = [[None] * SAMPLES for _ in prompts]
    start = time.monotonic()
    for done, one in enumerate(engine.generate(prompts, SAMPLES, np.asarray(keys)), start=1):
        replies[one.prompt_index][one.sample_index] = one.tokens
        print(f"\r{done}/{len(keys)} replies, {time.monotonic() - start:.0f} s", end="", flush=True)
    print()
    with gzip.open(arguments.output, "wt", compresslevel=9) as file:
        for number, problem in enumerate(problems):
            record = {"task_id": problem.task_id, "entry_point": problem.entry_point}
            for role, name in enumerate(("solutions", "tests")):
                tokens = replies[2 * number + role]
                record[name] = [policy.tokenizer.decode(one.tolist()) for one in tokens]
                record[f"{name}_tokens"] = [len(one) for one in tokens]
                record[f"{name}_prompt_tokens"] = len(prompts[2 * number + role])
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
