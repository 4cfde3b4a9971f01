"""Update: trained tokens per second, against the matmul peak and PyTorch, in the same run.

Ours and the peer's do the same: the same weights and tokens, the clipped policy gradient over
response tokens, one AdamW step, as many tokens at a time. MFU counts 6 FLOPs per matmul parameter
and token that is computed (the head's per prediction) and causal attention, not what is computed
twice, over the best rate of a large matrix product on this machine. Weights are random: speed does
not depend on them.

With recorded replies (``update_recorded``), each role's update is measured with prefixes shared and
with a row for each sequence. Peak memory is the compilers' own figure for the whole micro-batch,
beside that of the same update with all its logits in memory, which is compiled and not run.
"""

import argparse
import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from zerocoder_jax.benchmarks import update_recorded
from zerocoder_jax.benchmarks.bounds import update_flops
from zerocoder_jax.benchmarks.matmul import matmul_peak
from zerocoder_jax.benchmarks.plan import extra_bytes, policy_shape, tree_bytes
from zerocoder_jax.errors import UserError
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.policy import Policy, init_policy, save_policy, vocabulary_logits
from zerocoder_jax.training.update import PolicyUpdate, TrainingSequence
from zerocoder_jax.training.update_programs import UpdatePrograms, log_prob_temperature


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this benchmark."""
    group = parser.add_argument_group("update")
    group.add_argument("--update-sequences", type=int, default=32)
    group.add_argument("--update-prompt-tokens", type=int, default=256)
    group.add_argument("--update-response-tokens", type=int, default=256)
    group.add_argument(
        "--update-lengths",
        choices=("equal", "recorded"),
        default="equal",
        help="recorded: a real policy's prompts and replies, both roles, as many sequences of each",
    )
    group.add_argument(
        "--update-micro-batches",
        type=int,
        default=0,
        help="of recorded replies, time so many of each size and multiply; 0 times all",
    )
    group.add_argument("--update-rounds", type=int, default=2, help="of which the best counts")
    group.add_argument("--update-no-peer", action="store_true", help="leave PyTorch out")


def run(config: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, print a table, and return the numbers."""
    config = _settings(config, arguments)
    if arguments.update_lengths == "recorded":
        result = update_recorded.run(config, arguments)
        _print_table(result)
        return result
    lora = config.policy.lora.rank > 0
    with_peer = not arguments.update_no_peer and not lora
    shape = policy_shape(config.policy.source)
    sequences = _sequences(shape.vocab_size, arguments)
    tokens = sum(one.length for one in sequences)
    # Weights that are not trained need no more than the precision they are kept in.
    precision = config.policy.reference_dtype if lora else "float32"
    policy = init_policy(shape, jax.random.key(config.seed), precision)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        if with_peer:
            save_policy(policy, weights)
        ours = _ours(policy, sequences, config, arguments)
        del policy
        gc.collect()
        peer = None
        if with_peer:
            peer = _pytorch_seconds(weights, sequences, config, arguments)
    peak = matmul_peak(jnp.dtype(config.policy.compute_dtype))
    flops = sum(
        update_flops(
            shape,
            one.length,
            len(one.response),
            one.length**2 / 2,
            reference=False,
            remat=False,
            lora=lora,
        )[0]
        for one in sequences
    )
    memory, materialised = peak_bytes(config, shape), _materialised_bytes(config, shape)
    result = {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "policy": config.policy.source,
        "dtype": config.policy.compute_dtype,
        "remat": config.training.remat,
        "sequences": len(sequences),
        "tokens": tokens,
        "seconds": ours["seconds"],
        "compile_seconds": ours["compile_seconds"],
        "tokens_per_second": tokens / ours["seconds"],
        "matmul_flops_per_second": peak,
        "mfu": flops / ours["seconds"] / peak / jax.device_count(),
        "transformers_tokens_per_second": tokens / peer["seconds"] if peer else None,
        "ratio_transformers": peer["seconds"] / ours["seconds"] if peer else None,
        "loss": ours["loss"],
        "transformers_loss": peer["loss"] if peer else None,
        "peak_bytes": memory,
        "peak_bytes_materialised": materialised,
        "peak_ratio_materialised": memory / materialised if memory and materialised else None,
    }
    _print_table(result)
    return result


def _settings(config: Any, arguments: argparse.Namespace) -> Any:
    """The config without what the peer lacks; for equal lengths with one bucket of their length,
    and a row for each sequence, since random ones share nothing."""
    config = config.copy_and_resolve_references()
    if arguments.update_lengths == "equal":
        length = arguments.update_prompt_tokens + arguments.update_response_tokens
        config.rollout.max_prompt_tokens = arguments.update_prompt_tokens
        config.rollout.max_new_tokens = arguments.update_response_tokens
        config.training.length_buckets = (length,)
        config.training.share_prefixes = False
        config.training.micro_batch_tokens = max(config.training.micro_batch_tokens, length)
    config.problems.per_step = arguments.update_sequences
    config.rollout.solutions = config.rollout.tests = 1
    config.grpo.kl_coefficient = config.grpo.entropy_coefficient = 0.0
    return config


def _sequences(vocabulary: int, arguments: argparse.Namespace) -> list[TrainingSequence]:
    random = np.random.default_rng(0)

    def tokens(count: int) -> np.ndarray:
        return random.integers(0, vocabulary, count, dtype=np.int32)

    prompt, response = arguments.update_prompt_tokens, arguments.update_response_tokens
    return [
        TrainingSequence(
            prompt=tokens(prompt),
            response=tokens(response),
            advantage=float(random.normal()),
            rollout_log_probs=np.full(response, -12.0, np.float32),
        )
        for _ in range(arguments.update_sequences)
    ]


def _ours(
    policy: Policy, sequences: list[TrainingSequence], config: Any, arguments: argparse.Namespace
) -> dict[str, float]:
    update = PolicyUpdate(policy, config, make_mesh(config.mesh))
    state = update.init(policy.params)
    # Compiles on one sequence: the shapes are the same.
    began = time.perf_counter()
    jax.block_until_ready(update.programs.accumulate.lower(*_abstract(update.programs)).compile())
    compile_seconds = time.perf_counter() - began
    loss, seconds = float("nan"), []
    for round_number in range(arguments.update_rounds):
        began = time.perf_counter()
        state, metrics = update(state, sequences)
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - began)
        if round_number == 0:
            loss = metrics["policy/loss"]
    return {"seconds": min(seconds), "compile_seconds": compile_seconds, "loss": loss}


def _abstract(programs: UpdatePrograms) -> tuple[Any, ...]:
    gradients, sums = programs.abstract_sums()
    batch = programs.abstract_batch(programs.sizes[-1])
    return (
        programs.abstract_state().params,
        programs.abstract_frozen() if programs.lora else None,
        gradients,
        sums,
        batch,
        programs.abstract_totals(),
    )


# ---- memory --------------------------------------------------------------------------------------


class _Materialised(UpdatePrograms):
    """The same update with the logits of a micro-batch in memory."""

    def _token_log_probs(
        self, weights: Any, hidden: jax.Array, targets: jax.Array, wanted: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        temperature = log_prob_temperature(self._config)
        logits = vocabulary_logits(weights, hidden, temperature=temperature)  # [B, T, V]
        log_softmax = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(log_softmax, targets[..., None], axis=-1)[..., 0]
        entropy = -jnp.sum(jnp.exp(log_softmax) * log_softmax, axis=-1)
        return chosen, jax.lax.stop_gradient(entropy)


def peak_bytes(config: Any, shape: Any, *, materialised: bool = False) -> int:
    """State, gradients and temporaries of an update whose sequences are one micro-batch."""
    config = config.copy_and_resolve_references()
    config.training.micro_batch_tokens = config.training.length_buckets[-1] * (
        config.problems.per_step
    )
    kind = _Materialised if materialised else UpdatePrograms
    programs = kind(shape, config, make_mesh(config.mesh))
    compiled = programs.accumulate.lower(*_abstract(programs)).compile()
    return (
        tree_bytes(programs.abstract_state())
        + tree_bytes(programs.abstract_frozen())
        + tree_bytes(programs.abstract_sums())
        + extra_bytes(compiled)
    )


def _materialised_bytes(config: Any, shape: Any) -> int | None:
    """None where its compiler has no room to try it: our own figures stand."""
    try:
        return peak_bytes(config, shape, materialised=True)
    except jax.errors.JaxRuntimeError:
        return None


# ---- the peer ------------------------------------------------------------------------------------


def _pytorch_seconds(
    weights: Path, sequences: list[TrainingSequence], config: Any, arguments: argparse.Namespace
) -> dict[str, float]:
    """The same update by transformers and PyTorch, without recomputation: its fastest way."""
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise UserError(
            "the update benchmark's peer is not installed; run pip install 'zerocoder_jax[bench]' "
            "or add --update-no-peer"
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, config.policy.compute_dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    model = model.to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.optimizer.learning_rate, weight_decay=0.01
    )
    prompt, response = arguments.update_prompt_tokens, arguments.update_response_tokens
    tokens = torch.tensor(
        np.stack([np.concatenate([one.prompt, one.response]) for one in sequences]),
        dtype=torch.long,
        device=device,
    )
    advantages = torch.tensor([one.advantage for one in sequences], device=device)
    rows = max(1, config.training.micro_batch_tokens // (prompt + response))
    temperature = log_prob_temperature(config)
    total = len(sequences) * response
    loss, seconds = float("nan"), []
    for round_number in range(arguments.update_rounds):
        began = time.perf_counter()
        optimizer.zero_grad()
        losses = 0.0
        for first in range(0, len(sequences), rows):
            chosen = tokens[first : first + rows]
            with torch.autocast(device, dtype, enabled=dtype != torch.float32):
                logits = model(chosen, logits_to_keep=response + 1, use_cache=False).logits
            log_probs = torch.log_softmax(logits[:, :-1].float() / temperature, -1)
            picked = log_probs.gather(-1, chosen[:, prompt:, None])[..., 0]
            ratio = torch.exp(picked - picked.detach())
            part = -(ratio * advantages[first : first + rows, None]).sum() / total
            part.backward()
            losses += float(part.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.gradient_clip)
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        if round_number == 0:
            loss = losses
    return {"seconds": min(seconds), "loss": loss}


def _print_table(result: dict[str, Any]) -> None:
    table = Table(title=f"Update of {result['policy']} on {result['device']}", show_header=False)
    for name, value in result.items():
        if isinstance(value, float):
            shown = f"{value:.4g}"
        elif name.startswith("peak_bytes") and value is not None:
            shown = f"{value / 2**30:.2f} GiB"
        else:
            shown = "not measured" if value is None else str(value)
        table.add_row(name.replace("_", " "), shown)
    Console().print(table)
