"""Writes recorded replies and their prompts as tokens, for the update's benchmark and packer.

    python tests/data/record_tokens.py TOKENIZER_DIRECTORY mbpp:mbpp.jsonl

reads tests/data/recorded_replies.jsonl.gz and writes tests/data/recorded_tokens.json.gz: for each
problem and role ("solutions", "tests") the prompt's tokens, and those of each reply with its stop
token.
"""

import argparse
import gzip
import json
from pathlib import Path

from zerocoder_jax.benchmarks.recorded import RECORDED_TOKENS, read_replies
from zerocoder_jax.policy.tokenizer import read_directory_tokenizer
from zerocoder_jax.problems import coder_prompt, read_problems, tester_prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", type=Path, help="directory with tokenizer.json")
    parser.add_argument("problems", help="as config.problems.source")
    arguments = parser.parse_args()

    tokenizer = read_directory_tokenizer(arguments.tokenizer)
    problems = {one.task_id: one for one in read_problems(arguments.problems, split="all")}
    records = []
    for replies in read_replies():
        record = {}
        for name, write in (("solutions", coder_prompt), ("tests", tester_prompt)):
            prompt = tokenizer.chat_tokens(write(problems[replies["task_id"]]))
            tokens = [
                [*tokenizer.encode(one), tokenizer.stop_token_ids[0]] for one in replies[name]
            ]
            assert len(prompt) == replies[f"{name}_prompt_tokens"]
            assert [len(one) for one in tokens] == replies[f"{name}_tokens"]
            record[name] = {"prompt": prompt, "replies": tokens}
        records.append(record)
    text = json.dumps(records, separators=(",", ":"))
    RECORDED_TOKENS.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
