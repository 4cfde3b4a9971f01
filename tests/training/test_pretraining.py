"""The toy policy's tokenizer and corpus, and that what the repository ships fits to them."""

import dataclasses
import random

import jax
import pytest

from zerocoder_jax.policy import load_policy
from zerocoder_jax.policy.decoder import decoder_graphdef, init_params
from zerocoder_jax.policy.loading import open_checkpoint
from zerocoder_jax.problems import prompts, read_problems
from zerocoder_jax.problems.toy import Authors
from zerocoder_jax.training.pretraining import (
    TOY_POLICY,
    PretrainingSettings,
    pretraining_optimizer,
    update,
)
from zerocoder_jax.training.toy_corpus import (
    ARGUMENT_WEIGHT,
    PROMPT_STYLE,
    Corpus,
    batches,
    corpus_texts,
    train_tokenizer,
)


@pytest.fixture(scope="module")
def shipped():
    return open_checkpoint("toy").tokenizer()


def test_the_shipped_policy_is_small():
    policy = load_policy("toy")
    assert policy.config == TOY_POLICY
    assert policy.config.num_matmul_parameters < 5_000_000


def test_the_shipped_tokenizer_is_what_the_corpus_makes(shipped):
    made = train_tokenizer(corpus_texts(20_000, PretrainingSettings().seed))
    for problem in read_problems("toy:test", limit=20):
        prompt = prompts.coder_prompt(problem, PROMPT_STYLE)
        assert made.chat_tokens(prompt) == shipped.chat_tokens(prompt)
        assert made.encode(problem.reference_solution) == shipped.encode(problem.reference_solution)


def test_prompts_of_both_roles_are_short(shipped):
    """A changed wording in ``problems.prompts`` is unknown to the policy: pretrain it again."""
    for problem in read_problems("toy:test"):
        for prompt in (prompts.coder_prompt, prompts.tester_prompt):
            assert len(shipped.chat_tokens(prompt(problem, PROMPT_STYLE))) <= 48


def test_digits_and_letters_of_values_stand_alone(shipped):
    tokens = [shipped.decode([t]) for t in shipped.encode("assert solve('abc', 123) == 45")]
    assert all(character in tokens for character in "abc12345")
    assert " == " in tokens


def test_text_survives_the_tokenizer(shipped):
    for problem in read_problems("toy:train", limit=50):
        assert shipped.decode(shipped.encode(problem.reference_solution)) == (
            problem.reference_solution
        )


def test_only_what_can_be_foreseen_weighs_fully(shipped):
    for example in Corpus(shipped, seed=0).examples(Authors(malformed=0.0), 50, tester_share=1.0):
        weighed = [(t, w) for t, w in zip(example.tokens, example.weights) if w]
        before = shipped.decode([t for t, w in weighed if w == ARGUMENT_WEIGHT])
        value = shipped.decode([t for t, w in weighed if w == 1.0])
        assert before.startswith("```python\nassert solve(") and value.startswith(" == ")
        assert shipped.decode(example.tokens).endswith(before + value)


def test_batches_hold_whole_examples_padded_to_eights(shipped):
    examples = Corpus(shipped, seed=0).examples(Authors(), 200, tester_share=0.5)
    made = batches(examples, 16, shipped.pad_token_id, random.Random(0))
    assert len(made) == 200 // 16
    rows = {tuple(example.tokens): example.weights for example in examples}
    for tokens, weights, lengths in made:
        assert tokens.shape[1] % 8 == 0 and tokens.shape[1] - lengths.max() < 8
        for row, row_weights, length in zip(tokens, weights, lengths):
            assert rows[tuple(row[:length].tolist())] == pytest.approx(row_weights[:length])
            assert (row[length:] == shipped.pad_token_id).all() and not row_weights[length:].any()


def test_steps_on_one_batch_lower_its_loss(shipped):
    config = dataclasses.replace(
        TOY_POLICY, hidden_size=32, intermediate_size=32, num_layers=1, num_heads=2, head_dim=16
    )
    settings = PretrainingSettings(steps=20, warmup=2)
    params = init_params(config, jax.random.key(0))
    optimizer = pretraining_optimizer(settings, params)
    state, graphdef = optimizer.init(params), decoder_graphdef(config)
    examples = Corpus(shipped, seed=0).examples(Authors(), 16, tester_share=0.5)
    (batch,) = batches(examples, 16, shipped.pad_token_id, random.Random(0))
    losses = []
    for _ in range(settings.steps):
        params, state, loss = update(graphdef, optimizer, params, state, *batch)
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]
