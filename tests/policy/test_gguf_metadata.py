"""A GGUF file's metadata is what the library reads, and a cut file is told from a whole one."""

from pathlib import Path

import gguf
import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.policy.gguf_checkpoint import _open

FIELDS: dict[str, object] = {
    "strings": ["", "a", "Ġmit Ümläuten", "<|im_end|>", "x" * 300],
    "whole": [1, -2, 3],
    "floats": [0.5, -1.25],
    "truths": [True, False, True],
    "nested": [["a", "b"], ["c"]],
    "bytes": b"\x00\xff\x10",
    "text": "no array",
    "number": 7,
}


def write(path: Path, endianess: gguf.GGUFEndian) -> None:
    writer = gguf.GGUFWriter(path, "qwen2", endianess=endianess)
    for name, value in FIELDS.items():
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        else:
            writer.add_array(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def contents(reader: gguf.GGUFReader) -> dict[str, object]:
    return {name: field.contents() for name, field in reader.fields.items() if field.types}


@pytest.mark.parametrize("endianess", list(gguf.GGUFEndian))
def test_it_is_read_as_the_library_reads_it(tmp_path: Path, endianess: gguf.GGUFEndian) -> None:
    path = tmp_path / "model.gguf"
    write(path, endianess)
    found = contents(_open(path))
    assert found == contents(gguf.GGUFReader(path))
    assert [found[name] for name in ("strings", "whole", "floats", "truths", "text", "number")] == [
        FIELDS[name] for name in ("strings", "whole", "floats", "truths", "text", "number")
    ]


def test_a_file_that_ends_within_it_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write(path, gguf.GGUFEndian.LITTLE)
    whole = path.read_bytes()
    # What follows the last field is padding.
    end = whole.index(b"number") + len("number") + 8
    for kept in range(4, end):
        path.write_bytes(whole[:kept])
        with pytest.raises(UserError, match="download the file again"):
            _open(path)
