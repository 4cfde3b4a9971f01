"""The engine gives every sample what the policy alone would give it, whatever sits beside it."""

import dataclasses
import functools
import gc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer, models

from zerocoder_jax.configuration import load_config
from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import (
    ChatTokenizer,
    LoraSettings,
    PolicyConfig,
    abstract_lora,
    forward,
    init_policy,
    merge_lora,
    vocabulary_logits,
)
from zerocoder_jax.policy.log_probs import token_log_probs
from zerocoder_jax.rollout import (
    Demand,
    EngineSettings,
    RolloutEngine,
    SamplingSettings,
    sample_key,
    shared_prefixes,
)

REPOSITORY = Path(__file__).parents[2]
CONFIGS = {path.stem for path in REPOSITORY.glob("configs/*.py")} - {"base", "experiments"}
STOP = 3
CONFIG = PolicyConfig(
    vocab_size=98,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=4,
    qkv_bias=True,
    tie_embeddings=True,
)
SHAPES = EngineSettings(rows=8, window=4, max_prompt_tokens=70)


@functools.cache
def policy(config=CONFIG):
    made = init_policy(config, jax.random.key(1))
    # Weights this large make distributions that are neither flat nor certain.
    params = jax.tree.map(lambda array: array * 6 if array.ndim > 1 else array, made.params)
    return dataclasses.replace(made, params=params, stop_token_ids=(STOP,), pad_token_id=1)


@functools.cache
def engine(shapes=SHAPES, longest=12, config=CONFIG):
    made = RolloutEngine(policy(config), SamplingSettings(max_new_tokens=longest), shapes)
    made.load(policy(config).params)
    return made


def adapters_of(lora, config=CONFIG):
    """Adapters that change the policy plainly and leave its distributions of their kind."""
    random = np.random.default_rng(2)
    return jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.2, leaf.dtype),
        abstract_lora(config, lora),
    )


def prompts_of(lengths, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(4, CONFIG.vocab_size, size=length).tolist() for length in lengths]


def keys_of(counts, step=0):
    return np.array(
        [sample_key(0, step, i, 0, s) for i, count in enumerate(counts) for s in range(count)],
        np.uint32,
    ).reshape(-1, 2)


def run(engine, prompts, counts, **options):
    counts = [counts] * len(prompts) if isinstance(counts, int) else counts
    keys = options.pop("keys", keys_of(counts))
    rollouts = list(engine.generate(prompts, counts, keys, **options))
    found = {(one.prompt_index, one.sample_index): one for one in rollouts}
    assert len(found) == len(rollouts) == sum(counts)
    return found


def logits_after(prompt, tokens, config=CONFIG, params=None):
    """What the policy says about each token of a reply, by one pass over all of it."""
    params = policy(config).params if params is None else params
    whole = jnp.asarray([list(prompt) + list(tokens)], jnp.int32)
    padded = jnp.pad(whole, ((0, 0), (0, 100 - whole.shape[1])))
    hidden = _hidden(params, padded, config)
    return np.asarray(vocabulary_logits(params, hidden[0, len(prompt) - 1 : whole.shape[1] - 1]))


@functools.partial(jax.jit, static_argnums=2)
def _hidden(params, tokens, config):
    positions = jnp.arange(tokens.shape[1])[None]
    graphdef = policy(config).graphdef
    return forward(graphdef, params, tokens, positions, jnp.ones(tokens.shape, bool))


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        dataclasses.replace(CONFIG, qkv_bias=False, qk_norm=True, tie_embeddings=False, head_dim=6),
    ],
    ids=["qwen2", "qwen3"],
)
def test_greedy_replies_and_log_probs_are_those_of_the_policy(config):
    prompts = prompts_of([1, 2, 40, 70, 17])
    greedy = [SamplingSettings(temperature=0.0, max_new_tokens=12)] * 5
    rollouts = run(engine(config=config), prompts, 2, sampling=greedy)
    for (index, _), rollout in rollouts.items():
        logits = logits_after(prompts[index], rollout.tokens, config)
        assert rollout.tokens.tolist() == logits.argmax(-1).tolist()
        exact = jax.nn.log_softmax(logits)[np.arange(len(rollout.tokens)), rollout.tokens]
        np.testing.assert_allclose(rollout.log_probs, exact, atol=1e-4)
        np.testing.assert_array_equal(rollout.sampled_log_probs, 0.0)


def test_sampled_replies_carry_the_log_probs_of_both_distributions():
    prompts = prompts_of([5, 30])
    sampling = [SamplingSettings(0.7, 0.8, 0, 12), SamplingSettings(1.3, 1.0, 5, 9)]
    for (index, _), rollout in run(engine(), prompts, 8, sampling=sampling).items():
        settings = sampling[index]
        logits = logits_after(prompts[index], rollout.tokens)
        chosen = np.arange(len(rollout.tokens)), rollout.tokens
        whole = jax.nn.log_softmax(logits / settings.temperature)[chosen]
        np.testing.assert_allclose(rollout.log_probs, whole, atol=1e-4)
        scaled = np.sort(logits / settings.temperature)[:, ::-1]
        masses = np.exp(scaled - scaled[:, :1])
        masses[:, settings.top_k or 98 :] = 0
        before = np.cumsum(masses, axis=1) - masses
        masses[before >= settings.top_p * masses.sum(axis=1, keepdims=True)] = 0
        own = logits[chosen] / settings.temperature - scaled[:, 0]
        exact = own - np.log(masses.sum(axis=1))
        np.testing.assert_allclose(rollout.sampled_log_probs, exact, atol=1e-3)


def test_ids_that_no_tokenizer_can_decode_are_never_sampled():
    """Rows of the embedding table beyond the tokenizer's 60 tokens are padding; the log-probs are
    those of training, which takes the softmax over all 98."""
    words = {chr(97 + number): number for number in range(60)}
    chat = ChatTokenizer(
        Tokenizer(models.BPE(vocab=words, merges=[])), None,
        stop_token_ids=[STOP], pad_token_id=1, origin="test",
    )  # fmt: skip
    padded = dataclasses.replace(policy(), tokenizer=chat)
    made = RolloutEngine(padded, SamplingSettings(max_new_tokens=12), SHAPES)
    made.load(padded.params)
    prompts = prompts_of([5, 20])
    found = run(made, prompts, 8)
    assert max(max(one.tokens) for one in found.values()) < 60
    assert any(max(one.tokens) >= 60 for one in run(engine(), prompts, 8).values())
    for (index, _), one in list(found.items())[::5]:
        logits = logits_after(prompts[index], one.tokens)
        expected = jax.nn.log_softmax(logits)[np.arange(len(one.tokens)), one.tokens]
        np.testing.assert_allclose(one.log_probs, expected, atol=1e-4)


def test_a_reply_ends_at_its_stop_token_or_at_its_limit():
    rollouts = run(engine(), prompts_of([4] * 12), 8)
    ends = {rollout.finished for rollout in rollouts.values()}
    assert ends == {True, False}
    for rollout in rollouts.values():
        assert (rollout.tokens[:-1] != STOP).all()
        assert rollout.finished == (rollout.tokens[-1] == STOP)
        assert rollout.finished or len(rollout.tokens) == 12
        assert rollout.tokens.dtype == np.int32 and rollout.log_probs.dtype == np.float32


@pytest.mark.parametrize(
    "shapes",
    [
        dataclasses.replace(SHAPES, rows=1),
        dataclasses.replace(SHAPES, rows=3, window=32),
        dataclasses.replace(SHAPES, rows=64, window=1),
    ],
    ids=str,
)
def test_the_same_keys_give_the_same_tokens_in_any_batch_layout(shapes):
    prompts = prompts_of([3, 20, 66, 9])
    counts = [5, 1, 3, 8]
    expected = run(engine(), prompts, counts)
    for place, rollout in run(engine(shapes), prompts, counts).items():
        np.testing.assert_array_equal(rollout.tokens, expected[place].tokens)
        np.testing.assert_allclose(rollout.log_probs, expected[place].log_probs, atol=1e-5)


def test_a_sample_depends_on_its_key_and_not_on_its_place():
    prompts = prompts_of([8, 8, 8])
    keys = keys_of([4, 4, 4])
    forwards = run(engine(), prompts, 4, keys=keys)
    backwards = run(engine(), prompts[::-1], 4, keys=keys[::-1])
    for (index, sample), rollout in forwards.items():
        twin = backwards[(2 - index, 3 - sample)]
        np.testing.assert_array_equal(rollout.tokens, twin.tokens)


def test_an_empty_prompt_begins_with_the_padding_token():
    alone = run(engine(), [[]], 4)
    spelled = run(engine(), [[1]], 4)
    for place, rollout in alone.items():
        np.testing.assert_array_equal(rollout.tokens, spelled[place].tokens)


def test_a_limit_of_one_token_gives_one_token():
    sampling = [SamplingSettings(max_new_tokens=1)] * 3
    rollouts = run(engine(), prompts_of([6, 1, 30]), 7, sampling=sampling)
    assert {len(rollout.tokens) for rollout in rollouts.values()} == {1}


def test_prompts_with_settings_of_their_own_keep_them():
    prompts = prompts_of([10, 10])
    sampling = [SamplingSettings(0.0, max_new_tokens=3), SamplingSettings(max_new_tokens=9)]
    rollouts = run(engine(), prompts, 4, sampling=sampling)
    greedy = [rollout for (index, _), rollout in rollouts.items() if index == 0]
    assert len({tuple(rollout.tokens) for rollout in greedy}) == 1
    assert max(len(rollout.tokens) for rollout in greedy) <= 3
    free = [rollout for (index, _), rollout in rollouts.items() if index == 1]
    assert len({tuple(rollout.tokens) for rollout in free}) > 1


SHARED_SHAPES = dataclasses.replace(SHAPES, rows=5, max_prompt_tokens=140)


def prompts_of_two_families(seed=0):
    random = np.random.default_rng(seed)
    heads = random.integers(4, CONFIG.vocab_size, size=(2, 100)).tolist()
    tails = [(0, 3), (1, 9), (0, 30), (0, 2), (1, 17), (1, 2)]
    own = [heads[head][: 70 + 11 * head] + prompts_of([size], seed)[0] for head, size in tails]
    return [*own, *prompts_of([5, 90], seed)]


def test_prompts_behind_a_shared_beginning_get_the_replies_of_whole_prompts():
    """More samples than rows, so that later prompts are computed behind rows that are in use."""
    prompts = prompts_of_two_families()
    sharing = RolloutEngine(policy(), SamplingSettings(max_new_tokens=12), SHARED_SHAPES)
    plain = RolloutEngine(policy(), SamplingSettings(max_new_tokens=12), SHARED_SHAPES)
    plain.warm_up(Demand(1, 1, frozenset({2})))  # It knows of no shared beginning.
    for made in (sharing, plain):
        made.load(policy().params)
    found, wanted = run(sharing, prompts, 3), run(plain, prompts, 3)
    for place, one in wanted.items():
        np.testing.assert_array_equal(found[place].tokens, one.tokens)
        np.testing.assert_allclose(found[place].log_probs, one.log_probs, atol=1e-5)
    assert sharing.statistics.prompt_tokens < 0.7 * plain.statistics.prompt_tokens


def test_an_engine_warmed_up_for_shared_beginnings_compiles_nothing_later():
    prompts = prompts_of_two_families()
    made = RolloutEngine(policy(), SamplingSettings(max_new_tokens=12), SHARED_SHAPES)
    made.load(policy().params)
    made.warm_up(Demand(24, 12, frozenset(map(len, prompts)), shared_prefixes(prompts)))
    for some in (prompts, prompts[:2], prompts[1:2], prompts[5:]):
        run(made, some, 3)
        assert made.statistics.recompilations == 0


def test_a_longer_prompt_than_allowed_is_refused_by_the_name_of_its_field():
    with pytest.raises(UserError, match=r"prompt 1 has 71 tokens, config.rollout.max_prompt_to"):
        engine().generate(prompts_of([5, 71]), 1, keys_of([1, 1]))


def test_nothing_to_sample_gives_nothing():
    assert run(engine(), [], []) == {}
    assert run(engine(), prompts_of([4, 4]), [0, 0]) == {}
    assert list(run(engine(), prompts_of([4, 4]), [0, 2])) == [(1, 0), (1, 1)]


def test_a_thousand_rows_take_turns():
    rollouts = run(engine(), prompts_of(np.arange(1, 51)), 20)
    statistics = engine().statistics
    assert len(rollouts) == 1000
    assert statistics.tokens == sum(len(rollout.tokens) for rollout in rollouts.values())
    assert statistics.prefills == 49  # Each distinct prompt once; that of one token needs none.
    assert statistics.wasted_rows < 0.2


def test_a_thousand_rows_side_by_side_of_which_none_finishes():
    """Nothing stops a reply but its limit; each is what the same key gives among eight rows."""
    endless = dataclasses.replace(policy(), stop_token_ids=())
    prompts = prompts_of(np.arange(1, 51))
    found = []
    for rows in (1000, 8):
        shapes = dataclasses.replace(SHAPES, rows=rows)
        made = RolloutEngine(endless, SamplingSettings(max_new_tokens=5), shapes)
        made.load(policy().params)
        found.append(run(made, prompts, 20))
        assert made.statistics.wasted_rows == 0.0
    for place, rollout in found[0].items():
        assert len(rollout.tokens) == 5 and not rollout.finished
        np.testing.assert_array_equal(rollout.tokens, found[1][place].tokens)


@pytest.mark.parametrize("length", [1, 5, 12])
def test_all_rows_may_finish_at_once(length):
    limits = np.full(16, length)
    sampling = [SamplingSettings(temperature=0.0, max_new_tokens=12)] * 2
    for rollout in run(engine(), prompts_of([5, 9]), 8, sampling=sampling, limits=limits).values():
        assert len(rollout.tokens) <= length


def test_replies_are_handed_out_while_others_are_still_decoded():
    limits = np.array([1, 12, 12, 12])
    stream = engine().generate(prompts_of([5]), 4, keys_of([4]), limits=limits)
    first = next(stream)
    assert first.sample_index == 0 or first.finished
    assert engine().statistics.tokens < 30
    assert len(list(stream)) == 3


def test_an_abandoned_call_leaves_the_engine_usable():
    prompts = prompts_of([5, 30])
    expected = run(engine(), prompts, 6)
    stream = engine().generate(prompts, 6, keys_of([6, 6]))
    next(stream)
    stream.close()
    for place, rollout in run(engine(), prompts, 6).items():
        np.testing.assert_array_equal(rollout.tokens, expected[place].tokens)


def test_a_second_call_ends_the_first_instead_of_mixing_with_it():
    """Both would write into the same rows."""
    first = engine().generate(prompts_of([5, 30]), 8, keys_of([8, 8]))
    next(first)
    run(engine(), prompts_of([7]), 3)
    with pytest.raises(RuntimeError, match="generate was called again"):
        list(first)


def test_a_released_engine_holds_no_memory_on_the_device():
    def held():
        gc.collect()
        return sum(array.nbytes for array in jax.live_arrays())

    made = RolloutEngine(policy(), SamplingSettings(max_new_tokens=4), SHAPES)
    before = held()
    made.load(policy().params)
    run(made, prompts_of([5]), 8)
    assert held() > before + 2 * CONFIG.num_layers * 8 * CONFIG.kv_size * 4 * 70
    made.release()
    assert held() == before


def test_an_engine_that_was_never_loaded_or_was_released_says_so():
    made = RolloutEngine(policy(), SamplingSettings(max_new_tokens=4), SHAPES)
    with pytest.raises(RuntimeError, match="call load"):
        made.generate([[5]], 1, keys_of([1]))
    made.load(policy().params)
    made.release()
    with pytest.raises(RuntimeError, match="call load"):
        made.generate([[5]], 1, keys_of([1]))


def test_new_weights_change_the_replies():
    made = RolloutEngine(policy(), SamplingSettings(max_new_tokens=6), SHAPES)
    made.load(policy().params)
    before = run(made, prompts_of([5]), 8)
    made.load(jax.tree.map(lambda array: array * 0.5, policy().params))
    after = run(made, prompts_of([5]), 8)
    assert any(before[place].tokens.tolist() != after[place].tokens.tolist() for place in before)


def test_twenty_steps_of_varying_prompts_and_lengths_compile_nothing_after_the_first(
    counted_compilations,
):
    made = RolloutEngine(
        policy(), SamplingSettings(max_new_tokens=10), dataclasses.replace(SHAPES, rows=6)
    )
    random = np.random.default_rng(0)

    def one_step(step):
        # As in training: new weights, a rollout, and the memory is given back.
        made.load(policy().params)
        prompts = prompts_of(random.integers(0, 71, size=random.integers(1, 6)), seed=step)
        counts = random.integers(0, 6, size=len(prompts)).tolist()
        limits = random.integers(1, 11, size=sum(counts))
        run(made, prompts, counts, keys=keys_of(counts, step), limits=limits)
        made.release()

    with counted_compilations() as compiled:
        made.load(policy().params)
        made.warm_up()
        one_step(0)
        # Decode at 1, 2, 4 and 6 rows, prompts of 64 and 128, copies; and three that lay out
        # weights and the empty cache.
        assert made.statistics.programs == 7
        assert 7 <= len(compiled) <= 24
    with counted_compilations() as compiled:
        for step in range(1, 20):
            one_step(step)
            assert made.statistics.recompilations == 0
            assert made.statistics.compile_seconds == 0
    assert compiled == []


@pytest.mark.parametrize("name", ["base", *sorted(CONFIGS)])
def test_at_most_twenty_four_programs_serve_every_config(name):
    from zerocoder_jax.rollout.prompt_packing import prompt_buckets
    from zerocoder_jax.rollout.schedule import batch_sizes

    rollout = load_config(f"{REPOSITORY}/configs/{name}.py").rollout
    sizes, buckets = batch_sizes(rollout.rows), prompt_buckets(rollout.max_prompt_tokens - 1)
    # And the copying of rows, two programs that lay out weights, one that makes the cache.
    assert len(sizes) + len(buckets) + 4 <= 24


def test_reduced_precision_stays_near_the_policy():
    prompts = prompts_of([20, 33])
    greedy = [SamplingSettings(temperature=0.0, max_new_tokens=8)] * 2
    for dtype, tolerance in (("bfloat16", 0.3), ("int8", 0.6)):
        shapes = dataclasses.replace(SHAPES, dtype=dtype)
        for (index, _), rollout in run(engine(shapes), prompts, 1, sampling=greedy).items():
            logits = logits_after(prompts[index], rollout.tokens)
            exact = jax.nn.log_softmax(logits)[np.arange(len(rollout.tokens)), rollout.tokens]
            np.testing.assert_allclose(rollout.log_probs, exact, atol=tolerance)


def test_int8_kernels_keep_adapters_beside_them():
    lora = LoraSettings(2, 3.0, ("query", "output", "up", "down"))
    shapes = dataclasses.replace(SHAPES, dtype="int8")
    made = RolloutEngine(policy(), SamplingSettings(max_new_tokens=12), shapes, lora=lora)
    with pytest.raises(ValueError, match="loads adapters"):
        made.load(policy().params)
    made.load(policy().params, adapters_of(lora))
    base = engine(shapes).decode_weights["layers"][1]
    for name, projection in made.decode_weights["layers"][1].items():
        if "norm" not in name:
            np.testing.assert_array_equal(projection["kernel"], base[name]["kernel"])
            assert projection["a"].dtype == projection["b"].dtype == jnp.bfloat16
    merged = merge_lora(policy().params, adapters_of(lora), lora.scale)
    prompts = prompts_of([5, 40, 70])
    greedy = [SamplingSettings(temperature=0.0, max_new_tokens=12)] * 3
    for (index, _), rollout in run(made, prompts, 1, sampling=greedy).items():
        logits = logits_after(prompts[index], rollout.tokens, params=merged)
        exact = jax.nn.log_softmax(logits)[np.arange(len(rollout.tokens)), rollout.tokens]
        np.testing.assert_allclose(rollout.log_probs, exact, atol=0.6)


def test_in_bfloat16_log_probs_are_those_of_the_training_path_in_bfloat16():
    """Both round everything to eight bits, in another order; what is promised is 2e-2."""
    made = init_policy(CONFIG, jax.random.key(1))
    shapes = dataclasses.replace(SHAPES, dtype="bfloat16")
    sampler = RolloutEngine(made, SamplingSettings(max_new_tokens=12), shapes)
    sampler.load(made.params)
    prompts = prompts_of([20, 33])
    rollouts = run(sampler, prompts, 4)
    whole, mask = np.zeros((len(rollouts), 48), np.int32), np.zeros((len(rollouts), 48), bool)
    for row, ((index, _), rollout) in enumerate(rollouts.items()):
        text = prompts[index] + rollout.tokens.tolist()
        whole[row, : len(text)], mask[row, : len(text)] = text, True

    @jax.jit
    def training_path(params):
        positions = jnp.broadcast_to(jnp.arange(48), whole.shape)
        hidden = forward(made.graphdef, params, whole, positions, mask, compute_dtype=jnp.bfloat16)
        return token_log_probs(params, hidden[:, :-1], whole[:, 1:])[0]

    found = np.asarray(training_path(made.params))
    for row, ((index, _), rollout) in enumerate(rollouts.items()):
        first = len(prompts[index]) - 1
        exact = found[row, first : first + len(rollout.tokens)]
        np.testing.assert_allclose(rollout.log_probs, exact, atol=2e-2)


def test_memory_is_taken_for_the_rows_that_a_call_needs():
    made = RolloutEngine(
        policy(), SamplingSettings(max_new_tokens=4), dataclasses.replace(SHAPES, rows=64)
    )
    made.load(policy().params)
    few = run(made, prompts_of([5]), 2)
    assert made._cache.keys[0].shape[0] == 2
    many = run(made, prompts_of([5]), 3)
    assert made._cache.keys[0].shape[0] == 4
    for place, rollout in few.items():
        np.testing.assert_array_equal(rollout.tokens, many[place].tokens)
