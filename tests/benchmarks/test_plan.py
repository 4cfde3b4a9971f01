"""A plan says what a run needs on a machine that is not here."""

import json
import subprocess
import sys

import jax
import pytest

from configs import qwen2_5_coder_7b
from configs.toy import get_config as toy_config
from zerocoder_jax.benchmarks.plan import (
    PUBLISHED,
    make_plan,
    smaller_changes,
    tree_bytes,
    update_flops,
)
from zerocoder_jax.parallel import make_mesh, parse_machine
from zerocoder_jax.policy import PolicyConfig, init_policy
from zerocoder_jax.training.update import PolicyUpdate

TOY = PolicyConfig(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=128,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    qkv_bias=True,
)


def test_the_bytes_planned_for_a_state_are_those_it_has():
    config = toy_config()
    config.grpo.kl_coefficient = 0.001
    policy = init_policy(TOY, jax.random.key(0), "float32")
    update = PolicyUpdate(policy, config, make_mesh(config.mesh))
    state = update.init(policy.params)
    measured = sum(leaf.nbytes for leaf in jax.tree.leaves((state, update._frozen)))
    planned = tree_bytes(update.programs.abstract_state())
    planned += tree_bytes(update.programs.abstract_frozen())
    assert planned == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    ("name", "billions"),
    [("Qwen/Qwen2.5-1.5B-Instruct", 1.54), ("Qwen/Qwen2.5-Coder-7B-Instruct", 7.07)],
)
def test_published_shapes_have_the_published_number_of_parameters(name, billions):
    # The table of an untied embedding multiplies nothing, so it is not among them.
    assert PUBLISHED[name].num_matmul_parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_attention_counts_as_causal_and_recomputation_does_not_count():
    policy = PUBLISHED["Qwen/Qwen2.5-1.5B-Instruct"]
    counted, done = update_flops(policy, 0, 1024, reference=False, remat=True)
    attention = 6 * 1024**2 * policy.num_layers * policy.query_size
    assert counted == 6 * policy.num_matmul_parameters * 1024 + attention
    assert 1.3 < done / counted < 1.34


def test_changes_that_would_help_grow_from_small_to_large():
    config = qwen2_5_coder_7b.get_config()
    rows = [change["rollout.rows"] for change in smaller_changes(config, "decode")[:-1]]
    assert rows == sorted(rows, reverse=True) and rows[0] < config.rollout.rows
    assert smaller_changes(config, "update")[-1] == {"policy.lora.rank": 32}


@pytest.mark.compiled
@pytest.mark.parametrize("machine", ["a100-80:4", "h100:2x8", "v5p:2x2x1", "v6e:4x4"])
def test_the_papers_7b_run_fits_update_and_rollout_together(machine):
    config = qwen2_5_coder_7b.get_config()
    # Sixteen chips of 32 GB have room for the samples' cache and little else.
    if machine.startswith("v6e"):
        config.rollout.rows, config.mesh.tensor = 32, 4
        config.training.micro_batch_tokens = 4096
    plan = make_plan(config, PUBLISHED["Qwen/Qwen2.5-Coder-7B-Instruct"], parse_machine(machine))
    assert plan.fits, plan
    assert {phase.name for phase in plan.phases} == {
        "update",
        "optimizer step",
        "decode",
        "prefill",
    }


@pytest.mark.compiled
def test_a_machine_that_is_too_small_is_refused_with_what_would_help(repository):
    made = subprocess.run(
        [
            sys.executable,
            "launch/plan.py",
            "--config=configs/qwen2_5_coder_7b.py",
            "--topology=a100-80:4",
            "--config.rollout.rows=256",
        ],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    answer = json.loads(made.stdout.splitlines()[-1])
    assert made.returncode == 2 and not answer["fits"]
    assert answer["change"]["rollout.rows"] < 256
    assert made.stderr.splitlines()[-1] == "error: the run does not fit a100-80:4"
