"""What a run trained is exported, whole or as adapters; what cannot be exported is refused."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from configs import base
from zerocoder_jax.command_line import write_config_json
from zerocoder_jax.errors import UserError
from zerocoder_jax.evaluation.evaluated_policy import load_evaluated_policy
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.policy import (
    ChatTokenizer,
    Policy,
    PolicyConfig,
    init_policy,
    load_lora,
    load_policy,
    merge_lora,
    save_policy,
)
from zerocoder_jax.training.checkpoints import Checkpoints
from zerocoder_jax.training.update import PolicyUpdate

CONFIG = PolicyConfig(
    vocab_size=16, hidden_size=8, intermediate_size=12, num_layers=2, num_heads=2,
    num_kv_heads=1, head_dim=4, qkv_bias=True,
)  # fmt: skip


def initial_policy() -> Policy:
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab={letter: i for i, letter in enumerate("abcdefgh")}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_end|>"])
    chat = ChatTokenizer(
        tokenizer, "{{ messages[0].content }}", stop_token_ids=[8], pad_token_id=8, origin="test"
    )
    policy = init_policy(CONFIG, jax.random.key(0))
    return Policy(CONFIG, policy.graphdef, policy.params, chat, chat.stop_token_ids, 8)


def shifted(tree: Any) -> Any:
    """Stands for training: every number becomes another one."""
    return jax.tree.map(lambda leaf: leaf + 0.25, tree)


@pytest.fixture
def run(tmp_path: Path) -> Callable[[int], tuple[Path, Any]]:
    """A run directory with one checkpoint, of adapters of a rank or (0) of all weights."""

    def make(rank: int, spoil: Callable[[Any], Any] = lambda leaf: leaf) -> tuple[Path, Any]:
        save_policy(initial_policy(), tmp_path / "initial")
        config = base.get_config()
        config.policy.source = f"hf:{tmp_path / 'initial'}"
        config.policy.lora.rank = rank
        write_config_json(tmp_path / "run", config)
        mesh = make_mesh(config.mesh)
        policy = load_policy(config.policy.source, mesh=mesh)
        update = PolicyUpdate(policy, config, mesh)
        state = update.init(policy.params)
        state = type(state)(
            jax.tree.map(spoil, shifted(state.params)), state.optimizer_state, state.step
        )
        with Checkpoints(tmp_path / "run" / "checkpoints", config) as checkpoints:
            checkpoints.save(3, state, {"step": 3})
        return tmp_path / "run", jax.device_get(state.params)

    return make


def export(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(repository / "launch" / "export.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=repository,
    )


def test_a_runs_weights_are_exported_bit_for_bit(
    run: Callable[[int], tuple[Path, Any]], repository: Path, tmp_path: Path
) -> None:
    directory, trained = run(0)
    done = export(repository, f"--policy={directory}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "after 3 steps" in done.stdout
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Weights in float32 after 3 of 150 steps" in card and '"learning_rate"' in card
    exported = load_policy(f"hf:{tmp_path / 'out'}")
    assert jax.tree.all(jax.tree.map(np.array_equal, exported.params, trained))
    assert exported.tokenizer is not None and exported.tokenizer.encode("cab") == [2, 0, 1]

    again = export(repository, f"--policy={directory}", f"--output={tmp_path / 'out'}")
    assert again.returncode == 2 and "exists already" in again.stderr
    adapter = export(
        repository, f"--policy={directory}", "--adapter", f"--output={tmp_path / 'adapter'}"
    )
    assert adapter.returncode == 2 and "config.policy.lora.rank is 0" in adapter.stderr
    assert not (tmp_path / "adapter").exists()


def test_a_runs_adapters_are_exported_merged_and_alone(
    run: Callable[[int], tuple[Path, Any]], repository: Path, tmp_path: Path
) -> None:
    directory, trained = run(2)
    for extra in ([], ["--adapter"]):
        output = f"--output={tmp_path / f'out{len(extra)}'}"
        done = export(repository, f"--policy={directory}", output, *extra)
        assert done.returncode == 0, done.stderr
    lora, settings = load_lora(tmp_path / "out1", CONFIG)
    assert jax.tree.all(jax.tree.map(np.array_equal, lora, trained))
    fields = json.loads((tmp_path / "out1" / "adapter_config.json").read_text())
    assert fields["base_model_name_or_path"] == str(tmp_path / "initial")
    assert "library_name: peft" in (tmp_path / "out1" / "README.md").read_text()
    # The adapters were trained beside weights in config.policy.reference_dtype.
    frozen = load_policy(f"hf:{tmp_path / 'initial'}", dtype="bfloat16").params
    frozen = jax.tree.map(lambda leaf: leaf.astype("float32"), frozen)
    merged = merge_lora(frozen, lora, settings.scale)
    exported = load_policy(f"hf:{tmp_path / 'out0'}").params
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, 1e-6), exported, merged)


def test_a_runs_adapters_are_evaluated_as_they_were_trained(
    run: Callable[[int], tuple[Path, Any]],
) -> None:
    directory, trained = run(2)
    mesh = make_mesh(base.get_config().mesh)
    evaluated = load_evaluated_policy(str(directory), mesh)
    assert evaluated.step == 3 and evaluated.lora is not None and evaluated.lora.rank == 2
    assert jax.tree.all(jax.tree.map(np.array_equal, evaluated.adapters, trained))
    frozen = load_policy(f"hf:{directory.parent / 'initial'}", dtype="bfloat16").params
    assert jax.tree.all(jax.tree.map(np.array_equal, evaluated.policy.params, frozen))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(evaluated.policy.params)} == {"bfloat16"}


def test_of_a_checkpoint_only_the_weights_are_read(
    run: Callable[[int], tuple[Path, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No trainer is built for it: at no moment is there more than one set of weights."""
    directory, trained = run(0)
    restore = ocp.PyTreeCheckpointHandler.restore
    live: list[int] = []

    def watched(*arguments: Any, **named: Any) -> Any:
        gc.collect()
        live.append(sum(array.nbytes for array in jax.live_arrays()))
        restored = restore(*arguments, **named)
        live.append(sum(array.nbytes for array in jax.live_arrays()))
        return restored

    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "restore", watched)
    gc.collect()
    before = sum(array.nbytes for array in jax.live_arrays())
    evaluated = load_evaluated_policy(str(directory), make_mesh(base.get_config().mesh))
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(trained))
    assert [now - before for now in live] == [0, weights]
    assert jax.tree.all(jax.tree.map(np.array_equal, evaluated.policy.params, trained))


def test_the_best_checkpoint_is_asked_for_by_name(
    run: Callable[[int], tuple[Path, Any]], repository: Path, tmp_path: Path
) -> None:
    directory, _ = run(0)
    for step, refusal in (
        ("best", "no checkpoint was evaluated"),
        ("last", "neither a number of steps nor best"),
    ):
        arguments = (f"--policy={directory}", f"--step={step}", f"--output={tmp_path / 'out'}")
        done = export(repository, *arguments)
        assert done.returncode == 2 and refusal in done.stderr


@pytest.mark.parametrize("rank", [0, 2])
def test_weights_that_are_not_finite_are_refused_by_tensor(
    rank: int, run: Callable[..., tuple[Path, Any]], repository: Path, tmp_path: Path
) -> None:
    """Of a checkpoint that an earlier version wrote; a run does not save such a state."""
    directory, _ = run(rank, spoil=lambda leaf: leaf.at[(-1,) * leaf.ndim].set(float("nan")))
    for extra in (["--adapter"], []) if rank else ([],):
        done = export(repository, f"--policy={directory}", f"--output={tmp_path / 'out'}", *extra)
        assert done.returncode == 2 and not (tmp_path / "out").exists()
        assert "after 3 steps, tensor " in done.stderr and "not finite" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    with pytest.raises(
        UserError, match=r"after 3 steps, tensor \S+ has values that are not finite"
    ):
        load_evaluated_policy(str(directory), make_mesh(base.get_config().mesh))


def test_what_is_not_there_is_refused_in_one_line(repository: Path, tmp_path: Path) -> None:
    for policy in (f"hf:{tmp_path / 'nowhere'}", f"gguf:{tmp_path / 'nowhere.gguf'}", "gpt"):
        done = export(repository, f"--policy={policy}", f"--output={tmp_path / 'out'}")
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()
