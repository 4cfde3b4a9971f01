"""The update as the real compilers of an A100 and of a v5p make it, read.

The policy is a thin slice of Qwen2.5-7B: few and narrow layers, but the head's proportions, heads
of 128 and a mesh like the real ones, so that what is scattered and what is gathered is the same.
"""

import math
import re
from pathlib import Path

import pytest

from configs.base import get_config
from zerocoder_jax.parallel import compile_only_devices, make_mesh, parse_machine
from zerocoder_jax.policy import PolicyConfig
from zerocoder_jax.training.update_programs import UpdatePrograms

pytestmark = pytest.mark.compiled

POLICY = PolicyConfig(
    vocab_size=32_768,
    hidden_size=512,
    intermediate_size=1536,
    num_layers=4,
    num_heads=4,
    # Query, key and value together are not as wide as a sequence is long: shapes stay apart.
    num_kv_heads=1,
    head_dim=128,
    qkv_bias=True,
)
LENGTH, TOKENS, CHUNK = 1024, 4096, 256
MACHINES = ["a100-80:4", "v5p:2x2x1"]


class Compiled:
    """One machine's two programs and the text of the first."""

    def __init__(self, name: str, folder: Path):
        config = get_config()
        config.rollout.max_prompt_tokens = config.rollout.max_new_tokens = LENGTH // 2
        config.training.length_buckets = (LENGTH,)
        config.training.micro_batch_tokens = TOKENS
        config.training.log_prob_chunk = CHUNK
        mesh = make_mesh(config.mesh, compile_only_devices(parse_machine(name)))
        self.programs = UpdatePrograms(POLICY, config, mesh)
        self.state = self.programs.abstract_state()
        gradients, sums = self.programs.abstract_sums()
        lowered = self.programs.accumulate.lower(
            self.state.params,
            None,
            gradients,
            sums,
            self.programs.abstract_batch(TOKENS),
            self.programs.abstract_totals(),
        )
        # libtpu cannot give a program with fused collectives back as text, but writes it to a file.
        self.accumulate = lowered.compile(
            compiler_options={"xla_dump_to": str(folder), "xla_dump_hlo_as_text": True}
        )
        [dump] = folder.glob("*accumulate*after_optimizations.txt")
        self.text = dump.read_text()
        self.apply = self.programs.apply.lower(self.state, gradients).compile()


@pytest.fixture(scope="module", params=MACHINES)
def compiled(request, tmp_path_factory):
    return Compiled(request.param, tmp_path_factory.mktemp("dump"))


def arrays(text: str) -> set[tuple[str, tuple[int, ...]]]:
    """Every array that the program names: (dtype, shape)."""
    found = re.findall(r"\b(f32|bf16|f16)\[([\d,]+)\]", text)
    return {(dtype, tuple(map(int, shape.split(",")))) for dtype, shape in found}


def results(text: str, operation: str) -> list[tuple[str, tuple[int, ...]]]:
    """Results of one kind of operation, also where it starts asynchronously or in a fusion."""
    pattern = rf"= (.*?) {operation}(?:-start)?\("
    return [array for result in re.findall(pattern, text) for array in arrays(result)]


def test_the_logits_of_a_micro_batch_never_exist(compiled):
    with_vocabulary = [shape for _, shape in arrays(compiled.text) if POLICY.vocab_size in shape]
    assert with_vocabulary
    # The head, its gradient and one chunk's logits are there; nothing has a row for each token.
    head = POLICY.vocab_size * POLICY.hidden_size
    chunk = POLICY.vocab_size * CHUNK
    assert max(map(math.prod, with_vocabulary)) <= max(head, chunk)
    assert max(head, chunk) < TOKENS * POLICY.vocab_size


def test_weights_travel_in_half_precision(compiled):
    gathered = results(compiled.text, "all-gather")
    matrices = [(dtype, shape) for dtype, shape in gathered if math.prod(shape) >= 512 * 256]
    assert matrices
    assert {dtype for dtype, _ in matrices} == {"bf16"}


def test_gradients_of_matrices_are_reduce_scattered_not_repeated(compiled):
    scattered = results(compiled.text, "reduce-scatter")
    # A TPU's reduce-scatter is a fusion of an all-reduce and the slice that is kept.
    fused = re.findall(r"^%all-reduce-scatter.*?^}", compiled.text, re.MULTILINE | re.DOTALL)
    scattered += [array for body in fused for array in results(body, "all-reduce")]
    outside = compiled.text
    for body in fused:
        outside = outside.replace(body, "")
    repeated = [shape for _, shape in results(outside, "all-reduce") if math.prod(shape) > 65_536]
    head = POLICY.hidden_size * POLICY.vocab_size
    assert max(math.prod(shape) for _, shape in scattered) >= head // 4
    if fused:
        # libtpu scatters along the major axis alone. The two matrices whose embed axis is the minor
        # one (attention's output and the feed-forward's down projection) are summed everywhere.
        minor = {(POLICY.query_size, POLICY.hidden_size), (1536, POLICY.hidden_size)}
        assert set(repeated) <= minor
    else:
        assert not repeated


def test_no_second_copy_of_the_state_is_made(compiled):
    from zerocoder_jax.benchmarks.plan import extra_bytes, tree_bytes

    state = tree_bytes(compiled.state)
    memory = compiled.apply.memory_analysis()
    assert memory.alias_size_in_bytes >= state
    assert extra_bytes(compiled.apply) < 0.05 * state
    gradients = tree_bytes(compiled.programs.abstract_sums()[0])
    assert compiled.accumulate.memory_analysis().alias_size_in_bytes >= gradients


def test_temporaries_stay_below_their_sum_on_paper(compiled):
    c, item = POLICY, 2
    parameters = sum(math.prod(leaf.shape) for leaf in _leaves(compiled.state.params))
    on_paper = {
        "residual stream at every layer": c.num_layers * TOKENS * c.hidden_size * item,
        "one layer's activations": 8 * TOKENS * (c.intermediate_size + c.query_size) * item,
        "gradients of this micro-batch": parameters * 4 // 4 * 2,
        "the head, gathered, and its gradient": c.vocab_size * c.hidden_size * (item + 2 * 4),
        "a chunk's logits and their gradient": 4 * CHUNK * c.vocab_size * 4,
    }
    assert compiled.accumulate.memory_analysis().temp_size_in_bytes < sum(on_paper.values())


def test_flash_attention_is_in_place(compiled):
    kernels = r"__cudnn\$fmha" if "cudnn" in compiled.text else r"splash"
    assert re.search(kernels, compiled.text)
    scores = [shape for _, shape in arrays(compiled.text) if shape.count(LENGTH) >= 2]
    assert not [shape for shape in scores if math.prod(shape) >= POLICY.num_heads * LENGTH**2]


def _leaves(tree):
    import jax

    return jax.tree.leaves(tree)
