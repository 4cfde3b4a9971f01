"""Which prompt tokens are computed together: padded lengths, shared beginnings, calls of prefill.

All prompts of a role begin with the same system message and the same worked example. Where a row of
the cache already holds such a beginning, a prompt is computed behind it: only its own tokens are.
"""

import itertools
from collections.abc import Iterable, Sequence

from zerocoder_jax.rollout.schedule import Prefill

# Prompt tokens that one prefill computes on each device: enough to be bound by arithmetic.
PREFILL_TOKENS = 512
SMALLEST_PROMPT = 64
# Prompts that agree in this many first tokens are one family.
FAMILY_TOKENS = 64


def prompt_buckets(longest: int) -> tuple[int, ...]:
    """Padded prompt lengths: powers of two up to the one that holds ``longest``.

    >>> prompt_buckets(300)
    (64, 128, 256, 512)
    """
    buckets = [SMALLEST_PROMPT]
    while buckets[-1] < longest:
        buckets.append(2 * buckets[-1])
    return tuple(buckets)


def prompt_bucket(length: int) -> int:
    """The padded length of a prompt of ``length`` tokens."""
    return prompt_buckets(length)[-1]


def prompts_per_prefill(bucket: int) -> int:
    """How many prompts of a bucket's length one prefill takes on each device."""
    return max(1, PREFILL_TOKENS // bucket)


def shared_prefixes(prompts: Iterable[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """The longest common beginning of each family of two or more prompts.

    Each leaves its prompts at least two tokens: the last token of a prompt is not prefilled, and a
    prompt with no token of its own has nothing to compute.

    >>> head = list(range(64))
    >>> prefixes = shared_prefixes([head + [1, 2, 3], head + [1, 2, 4, 5], [7] * 80])
    >>> [len(prefix) for prefix in prefixes]
    [65]
    """
    families: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for prompt in prompts:
        if len(prompt) > FAMILY_TOKENS + 1:
            families.setdefault(tuple(prompt[:FAMILY_TOKENS]), []).append(tuple(prompt))
    found = []
    for family in families.values():
        if len(family) > 1:
            # Of sorted sequences, the first and the last differ earliest.
            first, last = min(family), max(family)
            pairs = zip(first, last)
            common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
            shortest = min(len(prompt) for prompt in family)
            found.append(first[: min(common, shortest - 2)])
    return tuple(sorted(found))


def without_extensions(prefixes: Iterable[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Each prefix that does not begin with another one: a prompt begins with at most one.

    >>> without_extensions([(1, 2, 3), (1, 2), (5,)])
    ((1, 2), (5,))
    """
    kept: list[tuple[int, ...]] = []
    # In sorted order a prefix precedes everything that begins with it.
    for prefix in sorted(set(prefixes)):
        if not kept or prefix[: len(kept[-1])] != kept[-1]:
            kept.append(prefix)
    return tuple(kept)


def prefix_of(prompt: Sequence[int], prefixes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The prefix with which a prompt begins and that leaves it two tokens; () if none does."""
    for prefix in prefixes:
        if len(prompt) > len(prefix) + 1 and tuple(prompt[: len(prefix)]) == prefix:
            return prefix
    return ()


def prefill_calls(
    prefills: Sequence[Prefill], lengths: Sequence[int], devices: int
) -> list[list[list[Prefill]]]:
    """Prefills packed into calls: for each call, the prompts of each device.

    Whole prompts come before those that are computed behind them. Within each kind the longest come
    first, so that a call's padded length is that of its first prompts and shorter ones fill it.

    Args:
        lengths: tokens that each prefill computes.
    """
    calls = []
    for behind in (False, True):
        queues: list[list[tuple[int, Prefill]]] = [[] for _ in range(devices)]
        for length, prefill in zip(lengths, prefills):
            if (prefill.shared > 0) == behind:
                queues[prefill.device].append((length, prefill))
        for queue in queues:
            queue.sort(key=lambda item: -item[0])
        while any(queues):
            longest = max(queue[0][0] for queue in queues if queue)
            size = prompts_per_prefill(prompt_bucket(longest))
            calls.append([[prefill for _, prefill in queue[:size]] for queue in queues])
            queues = [queue[size:] for queue in queues]
    return calls
