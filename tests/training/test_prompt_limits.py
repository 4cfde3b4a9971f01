"""Prompts that are too long, or cannot be written: found before anything is sampled, by name."""

from types import SimpleNamespace

import pytest
import tokenizers
from tokenizers import models

from configs.base import get_config
from zerocoder_jax.errors import UserError
from zerocoder_jax.policy import ChatTokenizer
from zerocoder_jax.problems import Problem
from zerocoder_jax.training.sampling import Sampler

TEMPLATE = "{{ messages[-1].content }}<|im_end|>"
SHORT = Problem("mine/short", "Return 1.", "f", "function")
LONG = Problem("mine/long", "Return 1. " * 200, "f", "function")


def sampler(template: str = TEMPLATE, skip_overlong: bool = False) -> Sampler:
    letters = {chr(number): number for number in range(32, 127)}
    library = tokenizers.Tokenizer(models.BPE(vocab=letters, merges=[]))
    library.add_special_tokens(["<|im_end|>"])
    chat = ChatTokenizer(library, template, stop_token_ids=[], pad_token_id=None, origin="small")
    config = get_config()
    config.rollout.max_prompt_tokens = 1000
    config.problems.skip_overlong = skip_overlong
    engine = SimpleNamespace(context=100_000)
    return Sampler(engine, None, chat, config)  # type: ignore[arg-type]  # neither of them is asked


def test_a_prompt_that_is_too_long_is_refused_by_problem_and_role() -> None:
    with pytest.raises(UserError, match=r"1 of 2 problems .* the tester's of problem mine/long"):
        sampler().check_prompts([SHORT, LONG])
    assert sampler().check_prompts([SHORT]) == [SHORT]


def test_problems_with_too_long_prompts_can_be_left_out_and_are_counted(caplog) -> None:
    assert sampler(skip_overlong=True).check_prompts([LONG, SHORT]) == [SHORT]
    assert "left out: 1 of 2 problems" in caplog.text
    with pytest.raises(UserError, match="1 of 1 problems"):
        sampler(skip_overlong=True).check_prompts([LONG])


def test_a_benchmarks_prompt_that_is_too_long_is_named_before_it_is_sampled() -> None:
    with pytest.raises(UserError, match=r"the coder's prompt of problem mine/long has \d+ tokens"):
        sampler().demand([SHORT, LONG], (1, 1), at_once=2, max_new_tokens=8)


def test_a_prompt_that_the_template_refuses_is_named() -> None:
    refusing = "{{ raise_exception('no system message, please') }}"
    with pytest.raises(UserError, match=r"the coder's prompt of problem mine/short: .* no system"):
        sampler(refusing).check_prompts([SHORT])
