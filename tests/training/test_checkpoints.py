"""A run goes on from its last whole checkpoint, and from no other."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from configs.base import get_config
from zerocoder_jax import storage
from zerocoder_jax.errors import UserError
from zerocoder_jax.training import checkpoints as checkpoints_module
from zerocoder_jax.training.checkpoints import Checkpoints
from zerocoder_jax.training.checksums import Damaged, verify


def state_of(step: int):
    return {"weights": jnp.full((8, 4), float(step)), "step": jnp.int32(step)}


def evaluated(score: float):
    return {"evaluation/toy/pass_at_1": score, "seconds/total": 100.0}


def test_what_was_saved_comes_back_with_its_meta(tmp_path):
    config = get_config()
    with Checkpoints(tmp_path, config) as checkpoints:
        assert checkpoints.restore(state_of(0)) is None
        checkpoints.save(3, state_of(3), {"step": 3, "beta0": 1e4})
    with Checkpoints(tmp_path, config) as checkpoints:
        state, meta = checkpoints.restore(state_of(0))
    assert meta == {"step": 3, "beta0": 1e4}
    np.testing.assert_array_equal(state["weights"], 3.0)
    assert int(state["step"]) == 3


def test_donating_a_state_right_after_saving_it_does_not_change_the_checkpoint(tmp_path):
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    state = jax.random.normal(jax.random.key(0), (1 << 20,))
    expected = np.array(state)
    with Checkpoints(tmp_path, get_config()) as checkpoints:
        checkpoints.save(1, {"weights": state}, {})
        overwrite(state).block_until_ready()
        checkpoints.wait()
        restored, _ = checkpoints.restore({"weights": jnp.zeros(1 << 20)})
    np.testing.assert_array_equal(restored["weights"], expected)


def test_the_newest_and_the_best_are_kept(tmp_path):
    config = get_config()
    config.checkpoint.keep = 2
    with Checkpoints(tmp_path, config) as checkpoints:
        for step, metrics in enumerate([evaluated(0.2), evaluated(0.9), {}, evaluated(0.5), {}]):
            checkpoints.save(step, state_of(step), {}, metrics=metrics)
        checkpoints.wait()
        assert checkpoints.steps == [1, 3, 4]


def test_another_config_is_refused_with_the_fields_that_differ(tmp_path):
    config = get_config()
    with Checkpoints(tmp_path, config) as checkpoints:
        checkpoints.save(1, state_of(1), {})
    config.grpo.clip_low = 0.3
    config.mesh.fsdp = 4
    config.execution.workers = 7
    with Checkpoints(tmp_path, config) as checkpoints:
        with pytest.raises(UserError) as error:
            checkpoints.restore(state_of(0))
    assert "config.grpo.clip_low: 0.2 then, 0.3 now" in str(error.value)
    assert "mesh" not in str(error.value) and "workers" not in str(error.value)


def test_a_reader_leaves_what_a_run_is_writing_alone(tmp_path):
    config = get_config()
    with Checkpoints(tmp_path, config) as checkpoints:
        checkpoints.save(1, state_of(1), {"step": 1})
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    with Checkpoints(tmp_path, config, read_only=True) as checkpoints:
        checkpoints.refuse_other_config()
        _, meta = checkpoints.restore(state_of(0))
    assert meta == {"step": 1}
    assert unfinished.exists()
    # Only a run that goes on itself knows that nobody writes there any more.
    with Checkpoints(tmp_path, config) as checkpoints:
        assert checkpoints.steps == [1]
        checkpoints.save(3, state_of(3), {"step": 3})
    assert not unfinished.exists()
    with Checkpoints(tmp_path / "nowhere", config, read_only=True) as checkpoints:
        checkpoints.refuse_other_config()
        assert checkpoints.restore(state_of(0)) is None
    assert not (tmp_path / "nowhere").exists()


def test_a_missing_step_is_named_with_those_there_are(tmp_path):
    with Checkpoints(tmp_path, get_config()) as checkpoints:
        checkpoints.save(2, state_of(2), {})
        with pytest.raises(UserError, match="no checkpoint of step 7; there are 2"):
            checkpoints.restore(state_of(0), step=7)


def test_a_described_state_restores_onto_the_mesh_it_names(tmp_path):
    mesh = Mesh(np.array(jax.devices()[:1]), ("fsdp",))
    layout = NamedSharding(mesh, PartitionSpec("fsdp"))
    target = {
        "weights": jax.ShapeDtypeStruct((8, 4), jnp.float32, sharding=layout),
        "step": jax.ShapeDtypeStruct((), jnp.int32, sharding=NamedSharding(mesh, PartitionSpec())),
    }
    with Checkpoints(tmp_path, get_config()) as checkpoints:
        checkpoints.save(1, state_of(1), {})
        state, _ = checkpoints.restore(target)
    assert state["weights"].sharding == layout


ON_ANOTHER_MESH = """
import sys
import jax, numpy as np
from configs.base import get_config
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.policy import PolicyConfig, init_policy
from zerocoder_jax.training.checkpoints import Checkpoints
from zerocoder_jax.training.update import PolicyUpdate, TrainingSequence

POLICY = PolicyConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_layers=2,
                      num_heads=4, num_kv_heads=2, head_dim=4, qkv_bias=True)

def update_on(data, fsdp, tensor):
    config = get_config()
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = data, fsdp, tensor
    config.policy.compute_dtype = config.policy.reference_dtype = "float32"
    config.rollout.max_prompt_tokens = config.rollout.max_new_tokens = 8
    config.training.length_buckets = (16,)
    config.problems.per_step = 1
    config.optimizer.learning_rate, config.optimizer.epsilon = 1e-2, 1e-3
    mesh = make_mesh(config.mesh, jax.devices()[: data * fsdp * tensor])
    policy = init_policy(POLICY, jax.random.key(0), "float32")
    update = PolicyUpdate(policy, config, mesh)
    return config, update, update.init(init_policy(POLICY, jax.random.key(0), "float32").params)

def batch(step):
    random = np.random.default_rng(step)
    return [TrainingSequence(random.integers(0, 64, 4, dtype=np.int32),
                             random.integers(0, 64, 6, dtype=np.int32),
                             float(random.normal()), np.full(6, -4, np.float32)) for _ in range(8)]

def weights(state):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(state))])

_, update, state = update_on(1, 1, 1)
for step in range(3):
    state, _ = update(state, batch(step))
expected = weights(state)

config, update, state = update_on(1, 8, 1)
for step in range(2):
    state, _ = update(state, batch(step))
with Checkpoints(sys.argv[1], config) as checkpoints:
    checkpoints.save(2, state, {"step": 2})
for mesh in ((2, 2, 2), (1, 1, 1)):
    config, update, state = update_on(*mesh)
    with Checkpoints(sys.argv[1], config) as checkpoints:
        state, meta = checkpoints.restore(state)
    layout = jax.tree.map(lambda leaf: leaf.sharding, state)
    assert layout == update.programs.state_shardings, mesh
    state, _ = update(state, batch(meta["step"]))
    np.testing.assert_allclose(weights(state), expected, atol=1e-5)
"""


def test_a_state_cut_in_eight_goes_on_in_other_pieces_and_in_one(tmp_path, repository):
    """Weights, moments and counts: the third update is that of a run that never stopped."""
    done = subprocess.run(
        [sys.executable, "-c", ON_ANOTHER_MESH, str(tmp_path)],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
        capture_output=True,
        text=True,
        cwd=repository,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


SAVES_FOREVER = """
import sys, jax.numpy as jnp
from configs.base import get_config
from zerocoder_jax.training.checkpoints import Checkpoints
with Checkpoints(sys.argv[1], get_config()) as checkpoints:
    for step in range(1, 10_000):
        state = {"weights": jnp.full((1 << 18,), float(step)), "step": jnp.int32(step)}
        checkpoints.save(step, state, {"step": step})
        print(step, flush=True)
"""


def test_a_checkpoint_being_written_when_the_process_is_killed_is_never_chosen(
    tmp_path, repository
):
    random = np.random.default_rng(0)
    process = subprocess.Popen(
        [sys.executable, "-c", SAVES_FOREVER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=repository,
    )
    for _ in range(int(random.integers(3, 8))):
        begun = int(process.stdout.readline())
    # Somewhere within the writing of the next ones.
    time.sleep(float(random.uniform(0, 0.1)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    target = {"weights": jnp.zeros(1 << 18), "step": jnp.int32(0)}
    with Checkpoints(tmp_path, get_config()) as checkpoints:
        state, meta = checkpoints.restore(target)
    # The one before the last begun is whole: saving waits for the one before.
    assert meta["step"] >= begun - 1
    assert int(state["step"]) == meta["step"]
    np.testing.assert_array_equal(state["weights"], float(meta["step"]))


def saved_steps(tmp_path, *steps: int):
    config = get_config()
    with Checkpoints(tmp_path, config) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_of(step), {"step": step})
    return config


def files_of(checkpoint):
    """What a restore reads."""
    return sorted(path for path in checkpoint.glob("*/**/*") if path.is_file())


def flip(path, random) -> None:
    data = bytearray(path.read_bytes())
    data[random.integers(len(data))] ^= 1 << int(random.integers(8))
    path.write_bytes(data)


@pytest.mark.parametrize("fault", ["flipped", "cut", "removed"])
def test_a_damaged_file_of_a_checkpoint_is_noticed_whichever_it_is(tmp_path, fault):
    random = np.random.default_rng(0)
    saved_steps(tmp_path / "whole", 1)
    whole = tmp_path / "whole" / "1"
    verify(whole)
    files = [path.relative_to(whole) for path in files_of(whole)] + ["checksums.json"]
    for number, name in enumerate(files):
        damaged = shutil.copytree(whole, tmp_path / str(number))
        match fault:
            case "flipped":
                flip(damaged / name, random)
            case "cut":
                (damaged / name).write_bytes((damaged / name).read_bytes()[: random.integers(99)])
            case "removed":
                (damaged / name).unlink()
        with pytest.raises(Damaged):
            verify(damaged)


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path, capsys):
    config = saved_steps(tmp_path, 1, 2)
    flip(tmp_path / "2" / "state" / "_METADATA", np.random.default_rng(0))
    with Checkpoints(tmp_path, config, read_only=True) as checkpoints:
        state, meta = checkpoints.restore(state_of(0))
        assert checkpoints.steps == [1, 2]
    assert meta == {"step": 1} and int(state["step"]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "checkpoint of step 2" in line and "is damaged" in line
    with Checkpoints(tmp_path, config) as checkpoints:
        with pytest.raises(UserError, match=r"step 2 .* is damaged .*; others are 1"):
            checkpoints.restore(state_of(0), step=2)
        assert checkpoints.restore(state_of(0))[1] == {"step": 1}
        # The run makes step 2 again; the damaged one is kept for whoever wants to look at it.
        assert checkpoints.steps == [1] and (tmp_path / "2.damaged").is_dir()
        checkpoints.save(2, state_of(2), {"step": 2})
        assert checkpoints.restore(state_of(0))[1] == {"step": 2}


def test_without_any_whole_checkpoint_nothing_is_restored(tmp_path):
    config = saved_steps(tmp_path, 1, 2)
    for step in ("1", "2"):
        (tmp_path / step / "checksums.json").unlink()
    with Checkpoints(tmp_path, config) as checkpoints:
        with pytest.raises(UserError, match=r"every checkpoint is damaged \(steps 2, 1\)"):
            checkpoints.restore(state_of(0))
    assert (tmp_path / "2").is_dir()


def test_a_reader_whose_checkpoint_is_replaced_takes_the_newest(tmp_path, monkeypatch):
    config = saved_steps(tmp_path, 1)
    restore = ocp.PyTreeCheckpointHandler.restore

    def after_the_run_saved_again(handler, directory, **arguments):
        if directory.parent.name == "1":
            saved_steps(tmp_path, 2, 3)
            shutil.rmtree(tmp_path / "1", ignore_errors=True)
        return restore(handler, directory, **arguments)

    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "restore", after_the_run_saved_again)
    with Checkpoints(tmp_path, config, read_only=True) as checkpoints:
        _, meta = checkpoints.restore(state_of(0))
    assert meta == {"step": 3}


def test_a_checkpoint_is_written_while_the_next_step_is_made(tmp_path, monkeypatch):
    may_finish = threading.Event()
    write = checkpoints_module.write_checksums

    def late(folder):
        assert may_finish.wait(60)
        write(folder)

    monkeypatch.setattr(checkpoints_module, "write_checksums", late)
    with Checkpoints(tmp_path, get_config()) as checkpoints:
        checkpoints.save(1, state_of(1), {"step": 1})
        assert checkpoints.steps == []  # nothing under that name, and the run has gone on
        may_finish.set()
        checkpoints.wait()
        assert checkpoints.steps == [1]


def test_saves_that_fail_are_warnings_until_too_many_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(storage, "WAITS", (0.0, 0.0))

    def full(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    config = saved_steps(tmp_path, 1)
    with monkeypatch.context() as failing, Checkpoints(tmp_path, config) as checkpoints:
        failing.setattr(checkpoints_module, "write_checksums", full)
        checkpoints.save(2, state_of(2), {"step": 2})
        checkpoints.save(3, state_of(3), {"step": 3})
        checkpoints.wait()
        warnings = capsys.readouterr().err
        assert warnings.count("\n") == 2 and "step 3 could not be written (No space" in warnings
        failing.undo()
        checkpoints.save(4, state_of(4), {"step": 4}, finish=True)
        assert checkpoints.steps == [1, 4]
        failing.setattr(checkpoints_module, "write_checksums", full)
        with pytest.raises(storage.StorageFailed, match=r"step 5.*No space left on device"):
            checkpoints.save(5, state_of(5), {"step": 5}, finish=True)
    with Checkpoints(tmp_path, config) as checkpoints:
        assert checkpoints.restore(state_of(0))[1] == {"step": 4}


def test_the_best_checkpoint_is_restored_by_name(tmp_path):
    config = get_config()
    with Checkpoints(tmp_path, config) as checkpoints:
        with pytest.raises(UserError, match="no checkpoint was evaluated"):
            checkpoints.restore(state_of(0), step="best")
        for step, score in ((1, 0.2), (2, 0.9), (3, 0.4), (4, 0.3)):
            checkpoints.save(step, state_of(step), {"step": step}, metrics=evaluated(score))
        _, meta = checkpoints.restore(state_of(0), step="best")
        assert meta == {"step": 2} and checkpoints.best_step == 2


def test_parameters_are_restored_without_the_optimizers_state(tmp_path):
    state = {
        "params": {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(4)},
        "optimizer_state": (jnp.full((2, 3), 7.0), {"count": jnp.int32(5)}),
        "step": jnp.int32(5),
    }
    config = get_config()
    with Checkpoints(tmp_path, config) as checkpoints:
        checkpoints.save(5, state, {"step": 5})
        params, meta = checkpoints.restore_params(jax.tree.map(jnp.zeros_like, state["params"]))
    assert meta == {"step": 5}
    jax.tree.map(np.testing.assert_array_equal, params, state["params"])


def test_what_changes_the_learning_continues_only_when_it_is_said(tmp_path):
    config = get_config()
    with Checkpoints(tmp_path, config) as checkpoints:
        checkpoints.save(1, state_of(1), {})
    config.optimizer.learning_rate = 5e-7
    config.steps = 300
    with Checkpoints(tmp_path, config) as checkpoints:
        with pytest.raises(UserError, match=r"learning_rate: 1e-06 then.*--accept-changes"):
            checkpoints.restore(state_of(0))
    with Checkpoints(tmp_path, config, accept_changes=True) as checkpoints:
        checkpoints.restore(state_of(0))
        assert [change.field for change in checkpoints.changed] == [
            "optimizer.learning_rate",
            "steps",
        ]
    config.policy.lora.rank = 8
    with Checkpoints(tmp_path, config, accept_changes=True) as checkpoints:
        with pytest.raises(UserError, match=r"lora.rank: 0 then, 8 now. Give these fields"):
            checkpoints.restore(state_of(0))
