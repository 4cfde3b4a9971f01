"""Makes run directories of exactly the files that a training run writes, without training.

Solutions and tests are drawn from small hand-written families, ever better ones as steps go by;
every verdict and every killed mutant comes from really running the two against each other. So the
matrices are as consistent as those of a real run, and a run of 150 steps is made in seconds.
"""

import contextlib
import functools
import io
import json
import math
import random
import re
from pathlib import Path

from configs.base import get_config

# Function families: statement, correct bodies, wrong bodies, right asserts, wrong asserts.
FAMILIES = {
    "sum_of_evens": (
        "Write a function {f}(numbers) that returns the sum of the even numbers in a list.",
        [
            "    return sum(n for n in numbers if n % 2 == 0)",
            "    total = 0\n    for n in numbers:\n        if n % 2 == 0:\n            total += n\n"
            "    return total",
        ],
        [
            "    return sum(n for n in numbers if n % 2 == 1)",
            "    return sum(numbers)",
            "    total = 0\n    for i in range(1, len(numbers)):\n        if numbers[i] % 2 == 0:\n"
            "            total += numbers[i]\n    return total",
            "    return sum(evens)",
        ],
        ["{f}([1, 2, 3, 4]) == 6", "{f}([]) == 0", "{f}([-2, 7]) == -2", "{f}([2]) == 2"],
        ["{f}([1, 2, 3]) == 6", "{f}([2, 4]) == 8"],
    ),
    "is_palindrome": (
        "Write a function {f}(text) that says whether a text reads the same backwards.\n\n"
        "Upper and lower case are different; the empty text is a palindrome.",
        [
            "    return text == text[::-1]",
            "    left, right = 0, len(text) - 1\n    while left < right:\n"
            "        if text[left] != text[right]:\n            return False\n"
            "        left += 1\n        right -= 1\n    return True",
        ],
        [
            "    return text == reversed(text)",
            "    return text[0] == text[-1]",
            "    return len(text) % 2 == 0",
            "    while text:\n        pass\n    return True",
        ],
        ["{f}('level') is True", "{f}('ab') is False", "{f}('') is True", "{f}('abca') is False"],
        ["{f}('Anna') is True", "{f}('abc') is True"],
    ),
    "largest_gap": (
        "Write a function {f}(values) that returns the largest difference of neighbours in a list, "
        "and 0 for a list of fewer than two values.",
        [
            "    # Pairs of neighbours; no pair means no gap.\n"
            "    return max((abs(a - b) for a, b in zip(values, values[1:])), default=0)",
            "    best = 0\n    for i in range(1, len(values)):\n"
            "        best = max(best, abs(values[i] - values[i - 1]))\n    return best",
        ],
        [
            "    return max(values) - min(values)",
            "    return max(b - a for a, b in zip(values, values[1:]))",
            "    return abs(values[0] - values[1])",
        ],
        ["{f}([1, 5, 2]) == 4", "{f}([9, 1]) == 8", "{f}([3]) == 0", "{f}([1, 2, 9, 9]) == 7"],
        ["{f}([1, 5, 2]) == 3", "{f}([]) == None"],
    ),
    "count_words": (
        "Write a function {f}(sentence) that counts how often each word occurs.",
        [
            "    counts = {{}}\n    for word in sentence.split():\n"
            "        counts[word] = counts.get(word, 0) + 1\n    return counts",
            "    words = sentence.split()\n"
            "    return {{word: words.count(word) for word in words}}",
        ],
        [
            "    return len(sentence.split())",
            "    return {{word: 1 for word in sentence.split()}}",
            "    return {{letter: sentence.count(letter) for letter in sentence}}",
        ],
        ["{f}('a b a') == {{'a': 2, 'b': 1}}", "{f}('') == {{}}", "{f}('x') == {{'x': 1}}"],
        ["{f}('a b a') == {{'a': 1, 'b': 1}}", "{f}('a b') == 2"],
    ),
}

MUTATIONS = (
    (" + ", " - "),
    (" - ", " + "),
    (" == ", " != "),
    (" != ", " == "),
    (" < ", " <= "),
    ("+= ", "-= "),
    ("% 2", "% 3"),
    (" 0", " 1"),
    ("True", "False"),
    ("(1,", "(2,"),
    ("max(", "min("),
    ("abs(", "("),
)

PROSE = re.findall(
    r"\w+",
    "first we look at the input and think about what is asked then we handle the empty case "
    "because it is easy to forget after that a loop over the values keeps the best result so far "
    "note that the order matters here and duplicates are counted once for each time they occur",
)


@functools.cache
def verdict(code: str | None, test: str | None) -> str:
    """Really run a test against a solution (ours both, so that no sandbox is needed)."""
    if code is None or test is None:
        return "UNPARSABLE"
    if "while text:\n        pass" in code and "''" not in test:
        return "TIMEOUT"  # it would not end
    scope: dict = {}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, scope)
            exec(test, scope)
    except AssertionError:
        return "FAILED"
    except Exception:
        return "ERROR"
    return "PASSED"


@functools.cache
def mutants(code: str) -> tuple[str, ...]:
    """Copies of a solution with one operator or constant changed."""
    found = []
    for old, new in MUTATIONS:
        for match in re.finditer(re.escape(old), code):
            if code[: match.start()].endswith("while left") or "\n" not in code[: match.start()]:
                continue  # endless loops are no use here, nor is a changed signature
            found.append(code[: match.start()] + new + code[match.end() :])
    return tuple(one for one in found if "-= 1\n        right" not in one)


def reply(draw: random.Random, code: str, words: int) -> str:
    prose = " ".join(draw.choices(PROSE, k=words))
    return f"{prose.capitalize()}.\n\n```python\n{code}\n```\n"


def sample(draw: random.Random, text: str, parsed: bool) -> dict:
    return {
        "reply": text,
        "reason": "" if parsed else draw.choice(["no_code", "no_entry_point", "syntax_error"]),
        "tokens": len(text) // 4,
        "finished": draw.random() > 0.03,
        "selected": False,
        "reward": None,
    }


def draw_problem(draw: random.Random, step: int, number: int, skill: float, words: int) -> dict:
    """One problem's line, rewards and selection still to come."""
    family = draw.choice(sorted(FAMILIES))
    statement, right, wrong, right_tests, wrong_tests = FAMILIES[family]
    name = family if number % 2 else f"{family}_{number}"
    argument = re.search(r"\((\w+)\)", statement)[1]
    solutions, tests = [], []
    for _ in range(8):
        body = draw.choice(right if draw.random() < skill else wrong).format()
        parsed = draw.random() > 0.08 * (1 - skill)
        code = f"def {name}({argument}):\n{body}\n"
        one = sample(draw, reply(draw, code if parsed else body, words), parsed)
        solutions.append(one | {"code": code if parsed else None})
    for _ in range(8):
        pool = right_tests if draw.random() < 0.2 + 0.8 * skill else wrong_tests
        code = "assert " + draw.choice(pool).format(f=name) + "\n"
        parsed = draw.random() > 0.1 * (1 - skill)
        one = sample(draw, reply(draw, code if parsed else "I cannot say.", words), parsed)
        one |= {"test": {"kind": "assert", "code": code} if parsed else None}
        tests.append(one | {"agrees": None, "mutation": None})
    statuses = [
        [verdict(s["code"], t["test"] and t["test"]["code"]) for t in tests] for s in solutions
    ]
    return {
        "step": step,
        "role": ("coder", "tester")[step % 2],
        "isolation": "namespaces",
        "task_id": f"toy/{family}/{number}",
        "prompt": statement.format(f=name),
        "entry_point": name,
        "kind": "function",
        "calibration": number < 1,
        "supervised": False,
        "solutions": solutions,
        "tests": tests,
        "statuses": statuses,
        "rank": len({tuple(s == "PASSED" for s in row) for row in statuses} - {(False,) * 8}),
        "proxy": None,
        "mutants": [],
    }


def select_and_reward(draw: random.Random, problem: dict, weight: float) -> None:
    """CodeT's consensus, then the rewards of the role whose turn it is."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for s, row in enumerate(problem["statuses"]):
        passed = tuple(t for t, status in enumerate(row) if status == "PASSED")
        if passed:
            groups.setdefault(passed, []).append(s)
    score, best = 0.0, ()
    for passed, members in groups.items():
        if math.sqrt(len(members)) * len(passed) > score:
            score, best = math.sqrt(len(members)) * len(passed), passed
    problem["selection"] = {
        "name": "codet",
        "beta0": 1e4,
        "alpha_xy": 1e3,
        "score": score,
        "confidence": min(score / 16, 1.0),
        "abstained": not best,
    }
    for s in groups.get(best, []):
        problem["solutions"][s]["selected"] = True
    for t in best:
        problem["tests"][t]["selected"] = True
    if problem["role"] == "coder":
        for one in problem["solutions"]:
            one["reward"] = float(one["selected"])
    elif best:
        reward_tests(problem, draw.choice(groups[best]), weight)


def reward_tests(problem: dict, proxy: int, weight: float) -> None:
    problem["proxy"] = proxy
    changed = mutants(problem["solutions"][proxy]["code"])
    agreeing = [t for t, s in enumerate(problem["statuses"][proxy]) if s == "PASSED"]
    killed = [
        [t for t in agreeing if verdict(m, problem["tests"][t]["test"]["code"]) != "PASSED"]
        for m in changed
    ]
    problem["mutants"] = [
        {"code": m, "killed_by": k, "surviving_of": [t for t in agreeing if t not in k]}
        for m, k in zip(changed, killed)
    ]
    for t, test in enumerate(problem["tests"]):
        test["agrees"] = t in agreeing
        test["mutation"] = sum(t in k for k in killed) / max(len(changed), 1)
        penalty = -1.0 if test["test"] is None else 0.0
        test["reward"] = test["agrees"] * (1 + weight * test["mutation"]) + penalty


def mean(values) -> float:
    values = [float(value) for value in values]
    return sum(values) / len(values) if values else 0.0


def step_metrics(draw: random.Random, problems: list[dict], step: int, steps: int) -> dict:
    """The line of metrics.jsonl that belongs to a step's problems."""
    role = problems[0]["role"]
    pairs = [s for p in problems for row in p["statuses"] for s in row]
    samples = {"coder": "solutions", "tester": "tests"}
    of_role = [one for p in problems for one in p[samples[role]]]
    seconds = {
        "rollout": draw.gauss(32, 2),
        "execution": draw.gauss(9, 1),
        "mutation": draw.gauss(7, 1) if role == "tester" else 0.0,
        "calibration": 0.4,
        "training": draw.gauss(50, 2),
        "selection": 0.2,
        "recording": 1.2,
    }
    line = {
        "step": step,
        "total_steps": steps,
        "role": role,
        f"{role}/reward": mean(one["reward"] or 0 for one in of_role),
        "coder/pass_rate": mean(
            any(s == "PASSED" for s in r) for p in problems for r in p["statuses"]
        ),
        "matrix/pass_rate": mean(status == "PASSED" for status in pairs),
        "matrix/rank": mean(p["rank"] for p in problems),
        "matrix/informative": mean(p["rank"] >= 2 for p in problems),
        "selection/abstained": mean(p["selection"]["abstained"] for p in problems),
        "selection/confidence": mean(p["selection"]["confidence"] for p in problems),
        "selection/solutions": mean(o["selected"] for p in problems for o in p["solutions"]),
        "selection/tests": mean(o["selected"] for p in problems for o in p["tests"]),
        "selection/beta0": 10.0 ** draw.choice([3, 4, 4, 5]),
        "selection/alpha_xy": 10.0 ** draw.choice([2, 3, 3]),
        "calibration/score": min(0.5 + step / (2 * steps) + draw.gauss(0, 0.05), 1.0),
        "rollout/tokens": sum(one["tokens"] for p in problems for one in p["solutions"]),
        "rollout/tokens_per_second": draw.gauss(5200, 200),
        "rollout/length_coder": mean(one["tokens"] for p in problems for one in p["solutions"]),
        "rollout/length_tester": mean(one["tokens"] for p in problems for one in p["tests"]),
        "rollout/truncated_coder": mean(
            not o["finished"] for p in problems for o in p["solutions"]
        ),
        "rollout/truncated_tester": mean(not o["finished"] for p in problems for o in p["tests"]),
        "rollout/recompilations": 3 if step == 0 else 0,
        "execution/runs": len(pairs) * 0.7,
        "execution/deduplicated": len(pairs) * 0.3,
        "policy/loss": draw.gauss(0, 0.01),
        "policy/kl": 1e-4 * step + abs(draw.gauss(0, 1e-4)),
        "policy/clip_fraction": 0.0,
        "policy/entropy": 0.6 - 0.2 * step / steps + draw.gauss(0, 0.02),
        "policy/gradient_norm": abs(draw.gauss(0.4, 0.1)),
        "policy/sampling_gap": abs(draw.gauss(3e-4, 1e-4)),
        "policy/recompilations": 1 if step == 0 else 0,
        "memory/peak_gb": 2.4 + 0.3 * (step > 1),
        "memory/device_peak_gb": 61.5 + 2.25 * (step > 1),
    }
    if role == "tester":
        tests = [one for p in problems for one in p["tests"] if one["agrees"] is not None]
        line["tester/agreement"] = mean(one["agrees"] for one in tests)
        line["tester/mutation"] = mean(one["agrees"] * one["mutation"] for one in tests)
        line["tester/weight"] = (1 - math.cos(math.pi * step / steps)) / 2
    for status in set(pairs):
        line[f"status/{status.lower()}"] = pairs.count(status) / len(pairs)
    for name, kind in samples.items():
        replies = [one for p in problems for one in p[kind]]
        line[f"parse/{name}"] = mean(not one["reason"] for one in replies)
        for one in replies:
            if one["reason"]:
                key = f"refused/{name}_{one['reason']}"
                line[key] = line.get(key, 0) + 1 / (2 * len(replies))
    line |= {f"seconds/{name}": value for name, value in seconds.items()}
    return line | {"seconds/total": sum(seconds.values())}


def evaluation(share: float) -> dict:
    return {
        "evaluation/toy/pass_at_1": 0.42 + 0.2 * share,
        "evaluation/toy/test_accuracy": 0.35 + 0.4 * share,
        "evaluation/toy/mutation_score": 0.2 + 0.25 * share,
    }


def generate_run(
    directory: Path, steps: int, problems: int, *, prose_words: int = 20, made: int | None = None
) -> Path:
    """Write a run directory.

    Args:
      directory: is made.
      steps: steps of the whole run.
      problems: problems per step, each with 8 solutions and 8 tests.
      prose_words: words around the code of each reply.
      made: steps that have been made; fewer than ``steps`` leave a run that still goes on.
    """
    draw = random.Random(0)
    made = steps if made is None else made
    (directory / "rollouts").mkdir(parents=True)
    config = get_config()
    config.steps = steps
    config.policy.source = "toy"
    config.problems.source = "toy:train"
    config.selector.name = "codet"
    (directory / "config.json").write_text(config.to_json_best_effort(indent=2))
    lines: list[dict] = []
    noise: list[dict] = []
    for step in range(made):
        skill = 0.35 + 0.5 * step / max(steps, 2)
        weight = (1 - math.cos(math.pi * step / steps)) / 2
        records = [draw_problem(draw, step, n, skill, prose_words) for n in range(problems)]
        for record in records:
            select_and_reward(draw, record, weight)
        with (directory / "rollouts" / f"step_{step:06d}.jsonl").open("w") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        line = step_metrics(draw, records, step, steps)
        if step % max(steps // 4, 1) == 0:
            line |= evaluation(step / steps)
            noise += [
                {"step": step, "selector": name, "noise": 0.4 - 0.2 * step / steps + worse}
                for name, worse in (("CodeT", 0.0), ("MaxPass", 0.1))
            ]
        lines.append(line)
    if made == steps:
        lines.append({"step": steps} | evaluation(1.0))
        names = ("pass_at_1", "test_accuracy", "mutation_score")
        before, after = (
            {name: evaluation(share)[f"evaluation/toy/{name}"] for name in names}
            for share in (0.0, 1.0)
        )
        summary = {"before": before, "after": after, "seconds": 100.0 * steps}
        (directory / "summary.json").write_text(json.dumps(summary))
    for name, records in (("metrics", lines), ("selection_noise", noise)):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (directory / f"{name}.jsonl").write_text(text)
    return directory
