"""Supervised pretraining of the toy policy from scratch, on one core in some twenty minutes.

First on a clean corpus, from which the policy learns what statements mean, then on one in which a
good share of the replies is wrong (``problems.toy.authors``), from which it learns to err like its
authors. What it knew is still there: that is what the co-evolution has to find again without
labels.
"""

import dataclasses
import functools
import random
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from zerocoder_jax.policy.config import PolicyConfig
from zerocoder_jax.policy.decoder import decoder_graphdef, forward, init_params, vocabulary_logits
from zerocoder_jax.policy.policy import Policy
from zerocoder_jax.problems.toy.authors import Authors
from zerocoder_jax.training.toy_corpus import (
    VOCABULARY,
    Corpus,
    batches,
    corpus_texts,
    train_tokenizer,
)

TOY_POLICY = PolicyConfig(
    family="qwen3",
    vocab_size=VOCABULARY,
    hidden_size=128,
    intermediate_size=512,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    rope_theta=10_000.0,
    qk_norm=True,
    tie_embeddings=True,
    max_positions=512,
)

CLEAN_AUTHORS = Authors(hasty=0.0, careful_error=0.0, malformed=0.0)


@dataclasses.dataclass(frozen=True)
class PretrainingSettings:
    """How long and how fast the toy policy is taught.

    Attributes:
      steps: optimizer steps.
      clean: share of the steps on the clean corpus.
      rows: examples per step.
      tester_share: share of the examples that are tests.
      learning_rate: Muon's peak; warmed up linearly, then a cosine down to a twentieth.
      adam_share: the embedding's and the norms' rate for Adam, as a share of Muon's.
      warmup: steps.
      authors: of the corpus that is not clean.
      seed: of the weights, the tokenizer's texts and the corpus.
    """

    steps: int = 2400
    clean: float = 0.7
    rows: int = 64
    tester_share: float = 0.6
    learning_rate: float = 2e-2
    adam_share: float = 0.3
    warmup: int = 100
    seed: int = 0
    authors: Authors = dataclasses.field(default_factory=Authors)


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where pretraining stands: the mean loss of the steps since the last report, in nats."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    seconds_left: float


def pretrain(
    settings: PretrainingSettings, config: PolicyConfig = TOY_POLICY, report_every: int = 100
) -> Iterator[Policy | Progress]:
    """Yields progress now and then, and at last the policy."""
    tokenizer = train_tokenizer(corpus_texts(20_000, settings.seed))
    corpus = Corpus(tokenizer, settings.seed + 1)
    params = init_params(config, jax.random.key(settings.seed))
    optimizer = pretraining_optimizer(settings, params)
    state = optimizer.init(params)
    graphdef = decoder_graphdef(config)
    clean_steps = round(settings.clean * settings.steps)
    order = random.Random(settings.seed)
    waiting: list[Any] = []
    losses: list[jax.Array] = []
    tokens_seen, started = 0, time.monotonic()
    for step in range(1, settings.steps + 1):
        if not waiting or step == clean_steps + 1:
            authors = CLEAN_AUTHORS if step <= clean_steps else settings.authors
            examples = corpus.examples(authors, 32 * settings.rows, settings.tester_share)
            waiting = batches(examples, settings.rows, tokenizer.pad_token_id, order)
        batch = waiting.pop()
        params, state, loss = update(graphdef, optimizer, params, state, *batch)
        losses.append(loss)
        tokens_seen += batch[0].size
        if step % report_every == 0:
            mean_loss = float(np.mean(jax.device_get(losses)))
            seconds, losses = time.monotonic() - started, []
            left = seconds / step * (settings.steps - step)
            yield Progress(step, settings.steps, mean_loss, tokens_seen / seconds, left)
    yield Policy(
        config,
        graphdef,
        params,
        tokenizer,
        tokenizer.stop_token_ids,
        tokenizer.pad_token_id,
    )


def pretraining_optimizer(
    settings: PretrainingSettings, params: Any
) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) for the kernels, Adam for the rest: half of Adam's steps."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0,
        settings.learning_rate,
        settings.warmup,
        settings.steps,
        0.05 * settings.learning_rate,
    )
    # The stacked kernels [L, in, out] are matrices; the embedding and the norms are Adam's.
    axes = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.contrib.muon(
            schedule,
            adam_learning_rate=lambda step: settings.adam_share * schedule(step),
            adam_b2=0.98,
            muon_weight_dimension_numbers=jax.tree.map(
                lambda param: axes if param.ndim == 3 else None, params
            ),
        ),
    )


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3))
def update(
    graphdef: Any,
    optimizer: Any,
    params: Any,
    state: Any,
    tokens: jax.Array,
    weights: jax.Array,
    lengths: jax.Array,
) -> tuple[Any, Any, jax.Array]:
    """One step on tokens [B, T] with weights [B, T], of which the first lengths [B] are real."""

    def mean_loss(params: Any) -> jax.Array:
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        hidden = forward(graphdef, params, tokens, positions, positions < lengths[:, None])
        logits = vocabulary_logits(params, hidden[:, :-1])  # [B, T - 1, V]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        return jnp.sum(losses * weights[:, 1:]) / jnp.sum(weights[:, 1:])

    loss, gradients = jax.value_and_grad(mean_loss)(params)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss
