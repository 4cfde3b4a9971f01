"""Loading streams: beside its shards, a host holds one tensor of the checkpoint at a time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# 4 devices share this host; weights of the layers are large, so that a stack of them would show.
CONFIG = {
    "model_type": "qwen2",
    "vocab_size": 4096,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}

# Sparse files of zeros read like any other, and cost neither disk nor the time to write it.
WRITE = """
import json, struct, sys
from pathlib import Path
from zerocoder_jax.policy.config import config_from_hugging_face
from zerocoder_jax.policy.weight_names import checkpoint_tensors

directory = Path(sys.argv[1])
header, end = {}, 0
for tensor in checkpoint_tensors(
    config_from_hugging_face(json.loads((directory / "config.json").read_text()), "")
):
    size = 2
    for length in tensor.shape:
        size *= length
    header[tensor.name] = {
        "dtype": "BF16", "shape": tensor.shape, "data_offsets": [end, end + size]
    }
    end += size
encoded = json.dumps(header).encode()
with (directory / "model.safetensors").open("wb") as file:
    file.write(struct.pack("<Q", len(encoded)) + encoded)
    file.truncate(8 + len(encoded) + end)
print(end)
"""

LOAD = """
import json, sys, threading, time, tracemalloc
from pathlib import Path
import jax, jax.numpy as jnp
from ml_collections import ConfigDict
from zerocoder_jax.parallel import make_mesh
from zerocoder_jax.policy.loading import check_tensors, read_params
from zerocoder_jax.policy.safetensors_checkpoint import SafetensorsCheckpoint

def held():
    # Anonymous memory: pages of the mapped file can be dropped at any time.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])

mesh = make_mesh(ConfigDict({"data": 1, "fsdp": 2, "tensor": 2}))
checkpoint = SafetensorsCheckpoint(Path(sys.argv[1]))
config = checkpoint.config()
check_tensors(checkpoint, config)
# Once before: programs are compiled, the library has allocated what it keeps.
jax.block_until_ready(read_params(checkpoint, config, "bfloat16", mesh))
before, peak, done = held(), 0, False

def watch():
    global peak
    while not done:
        peak = max(peak, held())
        time.sleep(0.001)

watcher = threading.Thread(target=watch)
tracemalloc.start()
watcher.start()
params = jax.block_until_ready(read_params(checkpoint, config, "bfloat16", mesh))
done = True
watcher.join()
shards = sum(s.data.nbytes for leaf in jax.tree.leaves(params) for s in leaf.addressable_shards)
host = tracemalloc.get_traced_memory()[1]
print(json.dumps({"peak": peak - before, "host": host, "shards": shards}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_a_checkpoint_of_a_gigabyte_needs_one_tensor_beside_its_shards(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))

    def run(program: str) -> str:
        environment = {
            "PATH": "/usr/bin:/bin",
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "4",
            # Return freed memory at once, so that what is measured is what is held.
            "MALLOC_TRIM_THRESHOLD_": "0",
            "MALLOC_MMAP_THRESHOLD_": "65536",
        }
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            capture_output=True, text=True, env=environment, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1]

    assert int(run(WRITE)) > 1_000_000_000
    measured = json.loads(run(LOAD))
    one_tensor = 2 * CONFIG["hidden_size"] * CONFIG["intermediate_size"]  # bfloat16
    # What the host holds is one slice, a quarter of a tensor that is cut over four devices, and
    # while it is read once more the bytes that it is made of.
    assert measured["host"] < 0.6 * one_tensor, measured
    # These devices live in the host's memory: there is also the tensor on them, and the copy of it
    # that turns it over.
    assert measured["peak"] - measured["shards"] < 2.5 * one_tensor, measured
