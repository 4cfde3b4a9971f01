"""Records real replies to prompts of every style and kind of problem, for the tests of the parsers.

    python tests/data/record_replies_of_all_kinds.py gguf:MODEL.gguf OUTPUT.jsonl \\
        mbpp:mbpp.jsonl@test humaneval:HumanEval.jsonl.gz livecodebench:sample.jsonl \\
        code_contests:sample.jsonl

Up to three problems of each source with short statements, both roles' replies to each in two
prompt styles, at temperature 0.7 and top-p 0.8, at most 200 new tokens. A line holds one reply and
its problem; a run that is stopped leaves what it has. Replies of Qwen2.5-Coder-0.5B-Instruct that
were recorded with it are part of tests/data/labelled_replies.jsonl.gz.
"""

import argparse
import dataclasses
import json
import random
import time
from pathlib import Path

import numpy as np

from zerocoder_jax.policy import load_policy
from zerocoder_jax.problems import coder_prompt, read_problems, tester_prompt
from zerocoder_jax.rollout import EngineSettings, RolloutEngine, SamplingSettings, sample_key

PROBLEMS = 3
SAMPLES = {"one_shot": 3, "zero_shot": 3}
ROLES = {"coder": coder_prompt, "tester": tester_prompt}
FIELDS = ("task_id", "prompt", "entry_point", "starter_code")
LONGEST_STATEMENT = 1_200  # characters
SAMPLING = SamplingSettings(temperature=0.7, top_p=0.8, max_new_tokens=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", help="as config.policy.source")
    parser.add_argument("output", type=Path)
    parser.add_argument("problems", nargs="+", help="as config.problems.source")
    arguments = parser.parse_args()

    problems = []
    for source in arguments.problems:
        short = [p for p in read_problems(source, "all") if len(p.prompt) <= LONGEST_STATEMENT]
        problems += random.Random(0).sample(short, min(PROBLEMS, len(short)))
    policy = load_policy(arguments.policy, dtype="bfloat16")
    jobs = [(p, role, style) for p in problems for style in SAMPLES for role in ROLES]
    prompts = [
        policy.tokenizer.chat_tokens(ROLES[role](problem, style)) for problem, role, style in jobs
    ]
    counts = [SAMPLES[style] for _, _, style in jobs]
    settings = EngineSettings(rows=16, max_prompt_tokens=max(map(len, prompts)))
    engine = RolloutEngine(dataclasses.replace(policy, params={}), SAMPLING, settings)
    engine.load(policy.params)
    tokenizer = policy.tokenizer
    del policy  # the engine has its own copy of the weights
    keys = [sample_key(0, 0, job, 0, n) for job, count in enumerate(counts) for n in range(count)]
    start = time.monotonic()
    with arguments.output.open("w") as file:
        for done, one in enumerate(engine.generate(prompts, counts, np.asarray(keys)), start=1):
            problem, role, style = jobs[one.prompt_index]
            record = {name: getattr(problem, name) for name in FIELDS} | {
                "role": role,
                "style": style,
                "finished": bool(one.finished),
                "reply": tokenizer.decode(one.tokens.tolist()),
            }
            print(json.dumps(record), file=file, flush=True)
            print(f"\r{done}/{len(keys)}, {time.monotonic() - start:.0f} s", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
