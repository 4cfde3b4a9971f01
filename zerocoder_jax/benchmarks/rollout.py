"""Rollout: sampled tokens per second, against this machine's own bound and transformers' generate.

The bound of a decode step is what its matrix products and its memory traffic must take, at the
rates that this machine reaches on products of just these shapes and on plain reading, measured in
the same run:

    bound = max(matmul FLOPs / matmul rate, weight bytes / bandwidth) + cache bytes / bandwidth

Real mode samples the configured policy. Synthetic mode draws random weights of a published shape
and gives every sample a length, all the same or those that a real policy's replies once had: rows
end when their length says, so that a large model's rollout can be measured without its weights.
Random weights predict nearly flat distributions, which no trained policy does, and which send every
step into the exact top-p search; the final norm is scaled until their distributions are peaked.
``searched_share`` says in which share of the steps the search ran.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from zerocoder_jax.benchmarks.plan import policy_shape
from zerocoder_jax.benchmarks.recorded import recorded_lengths
from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import Params, Policy, PolicyConfig, init_policy, load_policy, save_policy
from zerocoder_jax.rollout import EngineSettings, RolloutEngine, SamplingSettings, sample_key

# Published shapes for random weights.
SHAPES = {
    "0.5b": "Qwen/Qwen2.5-Coder-0.5B-Instruct",
    "1.5b": "Qwen/Qwen2.5-1.5B-Instruct",
    "4b": "Qwen/Qwen3-4B",
    "7b": "Qwen/Qwen2.5-Coder-7B-Instruct",
}
# Standard deviation of a synthetic policy's logits over the sampling temperature. Of 152,000 such
# logits, normally distributed, the 64 largest hold more than 0.8 of the mass, as in real text.
PEAKED = 8.0
INSTRUCTION = "Write a Python function that returns every {}-th element of a list, sorted."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this benchmark."""
    group = parser.add_argument_group("rollout")
    group.add_argument("--mode", choices=("real", "synthetic"), default="real")
    group.add_argument("--shape", choices=SHAPES, default="1.5b", help="synthetic: of the weights")
    group.add_argument("--prompts", type=int, default=16)
    group.add_argument("--samples", type=int, default=8, help="of each prompt")
    group.add_argument("--prompt-tokens", type=int, default=512, help="synthetic, equal lengths")
    group.add_argument("--new-tokens", type=int, default=128, help="of each sample, at most")
    group.add_argument(
        "--lengths",
        choices=("equal", "recorded"),
        default="equal",
        help="synthetic: of prompts and replies",
    )
    group.add_argument("--greedy", action="store_true", help="instead of the config's sampling")
    group.add_argument("--rounds", type=int, default=2, help="of which the best counts")
    group.add_argument("--no-peer", action="store_true", help="leave transformers out")


def run(config: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return the numbers."""
    policy, prompts, limits = _workload(config, arguments)
    sampling = SamplingSettings(
        temperature=0.0 if arguments.greedy else config.rollout.temperature,
        top_p=config.rollout.top_p,
        top_k=config.rollout.top_k,
        max_new_tokens=arguments.new_tokens,
    )
    params = policy.params
    # Replies run to their limits, ours and the peer's: no token stops them.
    policy = dataclasses.replace(policy, params={}, stop_token_ids=())
    settings = EngineSettings(
        rows=config.rollout.rows,
        window=config.rollout.window,
        max_prompt_tokens=max(map(len, prompts)),
        dtype=config.rollout.dtype,
    )
    engine = RolloutEngine(policy, sampling, settings)
    engine.load(params)
    samples = len(prompts) * arguments.samples
    keys = np.stack([sample_key(config.seed, 0, 0, 0, sample) for sample in range(samples)])

    def ours(limits: np.ndarray) -> Any:
        for _ in engine.generate(prompts, arguments.samples, keys, limits=limits):
            pass
        return engine.statistics

    first = ours(limits)
    peer = (
        None if arguments.no_peer else _Transformers(policy, params, prompts, arguments, sampling)
    )
    del params
    # Interleaved, so that what else the machine does meets both.
    measured, peer_rates, recompilations = [], [], 0
    for _ in range(arguments.rounds):
        measured.append(ours(limits))
        recompilations += measured[-1].recompilations
        if peer is not None:
            peer_rates.append(peer.tokens_per_second())
    best = max(measured, key=lambda one: one.tokens_per_second)
    bound = _bound(policy.config, engine, best)
    result = {
        "device": jax.devices()[0].device_kind,
        "devices": jax.local_device_count(),
        "mode": arguments.mode,
        "dtype": settings.dtype,
        "rows": min(samples, settings.rows),
        "samples": samples,
        "new_tokens": arguments.new_tokens,
        "tokens": best.tokens,
        "tokens_per_second": best.tokens_per_second,
        "bound_tokens_per_second": bound["tokens_per_second"],
        "bound_ratio": best.tokens_per_second / bound["tokens_per_second"],
        "transformers_tokens_per_second": max(peer_rates) if peer_rates else None,
        "ratio_transformers": best.tokens_per_second / max(peer_rates) if peer_rates else None,
        "wasted_rows": best.wasted_rows,
        "cache_read_ratio": best.read_ratio,
        "searched_share": best.searched_steps / max(1, best.steps),
        "prompt_tokens": sum(map(len, prompts)),
        "prompt_tokens_computed": best.prompt_tokens,
        "compile_seconds": first.compile_seconds,
        "programs": best.programs,
        "recompilations": recompilations,
        "matmul_flops_per_second": bound["matmul"],
        "bytes_per_second": bound["bandwidth"],
    }
    _print_table(result)
    return result


def _workload(
    config: Any, arguments: argparse.Namespace
) -> tuple[Policy, list[list[int]], np.ndarray]:
    """The policy, its prompts, and the limit of every sample."""
    samples = arguments.prompts * arguments.samples
    random = np.random.default_rng(config.seed)
    limits = np.full(samples, arguments.new_tokens)
    if arguments.mode == "real":
        policy = load_policy(config.policy.source, dtype="float32")
        assert policy.tokenizer is not None
        asked = [INSTRUCTION.format(number + 2) for number in range(arguments.prompts)]
        messages = [[{"role": "user", "content": text}] for text in asked]
        return policy, [policy.tokenizer.chat_tokens(one) for one in messages], limits
    shape = policy_shape(SHAPES[arguments.shape])
    dtype = jnp.float32 if config.rollout.dtype == "float32" else jnp.bfloat16
    policy = init_policy(shape, jax.random.key(config.seed), dtype)
    temperature = 0.0 if arguments.greedy else config.rollout.temperature
    policy = policy.with_params(peaked(policy.params, shape, temperature))
    prompt_lengths = np.full(arguments.prompts, arguments.prompt_tokens)
    if arguments.lengths == "recorded":
        recorded = recorded_lengths(arguments.prompts, arguments.samples)
        prompt_lengths, limits = recorded.prompts, recorded.replies.ravel()
        limits = np.minimum(limits, arguments.new_tokens)
    prompts = [
        random.integers(0, shape.vocab_size, size=length).tolist() for length in prompt_lengths
    ]
    return policy, prompts, limits


def peaked(params: Params, config: PolicyConfig, temperature: float) -> Params:
    """Random parameters whose logits have ``PEAKED`` times the temperature as standard deviation.

    A normalized hidden state has length sqrt(D), so that a logit's deviation is that times the
    deviation of the head's entries; the final norm's weights scale it.
    """
    head = params["embedding"] if config.tie_embeddings else params["head"]
    deviation = jnp.std(jax.tree.leaves(head)[0].astype(jnp.float32)) * config.hidden_size**0.5
    factor = PEAKED * (temperature or 1.0) / deviation
    scaled = jax.tree.map(lambda w: (w * factor).astype(w.dtype), params["final_norm"])
    return {**params, "final_norm": scaled}


class _Transformers:
    """The peer: the same weights and prompts in one batch of all samples, its own sampling."""

    def __init__(
        self,
        policy: Policy,
        params: Any,
        prompts: list[list[int]],
        arguments: argparse.Namespace,
        sampling: SamplingSettings,
    ):

        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ImportError as error:
            raise UserError(
                "the peer of this benchmark needs torch: pip install 'zerocoder_jax[bench]', "
                "or pass --no-peer"
            ) from error
        with tempfile.TemporaryDirectory() as directory:
            save_policy(policy.with_params(params), directory)
            model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        if torch.cuda.is_available():
            model = model.to("cuda", torch.bfloat16)
        self._model = model
        longest = max(map(len, prompts))
        padded = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self._torch = torch
        self._inputs = {
            name: torch.tensor(rows).repeat_interleave(arguments.samples, 0).to(self._model.device)
            for name, rows in (("input_ids", padded), ("attention_mask", mask))
        }
        self._options: dict[str, Any] = {
            "max_new_tokens": arguments.new_tokens,
            "min_new_tokens": arguments.new_tokens,
            "do_sample": sampling.temperature > 0,
            "pad_token_id": 0,
        }
        if sampling.temperature > 0:
            self._options |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
            self._options["top_k"] = sampling.top_k

    def tokens_per_second(self) -> float:
        """One call of ``generate``."""
        began = time.perf_counter()
        with self._torch.no_grad():
            output = self._model.generate(**self._inputs, **self._options)
        new = output.shape[1] - self._inputs["input_ids"].shape[1]
        return output.shape[0] * new / (time.perf_counter() - began)


def _bound(config: PolicyConfig, engine: RolloutEngine, statistics: Any) -> dict[str, float]:
    """Tokens per second that the measured rates allow for what ``statistics`` counted.

    A step of R rows multiplies each weight with R rows; every live row reads its cache once.
    """
    weights = engine.decode_weights
    layer = weights["layers"][0]
    kernels = [layer[name]["kernel"] for name in ("qkv", "output", "gate_up", "down")]
    kernels.append(weights["head"]["kernel"])
    counts = [config.num_layers] * 4 + [1]
    devices = jax.local_device_count()
    rows = max(1, round(statistics.row_steps / max(1, statistics.steps)))
    dtype = weights["embedding"].dtype
    matmul_seconds = 0.0
    for kernel, count in zip(kernels, counts):
        local = kernel.addressable_data(0)
        # Several copies, so that a cache holds no more of the weights than in decoding.
        copies = max(2, min(count, int(2e8 // local.nbytes)))
        stack = [local + jnp.zeros((), local.dtype) for _ in range(copies)]
        x = jnp.ones((rows, local.shape[0]), dtype)
        products = jax.jit(lambda x, stack: [x @ kernel.astype(x.dtype) for kernel in stack])
        matmul_seconds += _seconds(products, x, stack) / copies * count
    # On accelerators long enough that starting a program does not count.
    block = jnp.ones(2**26 if jax.default_backend() == "cpu" else 2**29, jnp.float32)
    bandwidth = block.nbytes / _seconds(jax.jit(jnp.sum), block)
    slot_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * dtype.itemsize
    cache_seconds = statistics.slots_needed * slot_bytes / bandwidth / devices
    # Steps that a batch without idle rows would have taken.
    steps = statistics.tokens / rows / devices
    flops = 2.0 * config.num_matmul_parameters * rows
    return {
        "tokens_per_second": statistics.tokens / (steps * matmul_seconds + cache_seconds),
        "matmul": flops / matmul_seconds,
        "bandwidth": bandwidth,
    }


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Of one call, the best of a few.

    Short calls are measured many in a row: a device that is fed ahead of its work shows what the
    work takes, and not what it takes to send it. A bound that counted the sending would be too easy
    to reach.
    """

    def calls(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            result = function(*arguments)
        jax.block_until_ready(result)
        return (time.perf_counter() - began) / count

    calls(1)  # compiles
    count = max(1, min(64, round(0.02 / calls(1))))
    return min(calls(count) for _ in range(5))


def _print_table(result: dict[str, Any]) -> None:
    table = Table(title=f"rollout on {result['device']}, {result['dtype']}, {result['mode']}")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("tokens per second", f"{result['tokens_per_second']:.1f}")
    table.add_row(
        "bound, from rates measured here",
        f"{result['bound_tokens_per_second']:.1f} ({result['bound_ratio']:.0%} reached)",
    )
    if result["ratio_transformers"] is not None:
        rate, ratio = result["transformers_tokens_per_second"], result["ratio_transformers"]
        table.add_row("transformers' generate", f"{rate:.1f} (we: {ratio:.2f} times)")
    table.add_row("idle among decoded rows", f"{result['wasted_rows']:.1%}")
    table.add_row("cache read / needed", f"{result['cache_read_ratio']:.2f}")
    table.add_row("steps with the exact search", f"{result['searched_share']:.1%}")
    table.add_row(
        "prompt tokens computed",
        f"{result['prompt_tokens_computed']} of {result['prompt_tokens']}",
    )
    table.add_row("compile seconds", f"{result['compile_seconds']:.1f}")
    table.add_row("programs, recompilations", f"{result['programs']}, {result['recompilations']}")
    Console().print(table)
