"""Files as people have them: named, compressed, encoded and surrounded in many ways."""

import gzip
import json
import zipfile
from importlib.util import find_spec

import pytest

from zerocoder_jax.errors import UserError
from zerocoder_jax.problems import read_problems
from zerocoder_jax.problems.readers.sources import parse_source

RECORDS = [
    {"task_id": "a", "prompt": "p", "entry_point": "f"},
    {"task_id": "b", "prompt": "größer ≥ 1", "entry_point": "f"},
]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
LIST = json.dumps(RECORDS, indent=1, ensure_ascii=False)


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)


@pytest.mark.parametrize("text", [LINES, LIST, "\n" + LINES, json.dumps(RECORDS) + "\n"])
@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.json.gz", "data.jsonl.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_lists_and_lines_are_told_apart_by_their_content(tmp_path, text, name, encoding):
    content = text.encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    problems = read_problems(f"jsonl:{path}")
    assert [problem.prompt for problem in problems] == ["p", "größer ≥ 1"]


@pytest.mark.parametrize("content", [b"", b"\n\n", "".encode("utf-16")])
@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
def test_an_empty_file_is_named(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        read_problems(f"jsonl:{path}")


def test_text_that_ends_within_a_character_is_an_error_of_the_file(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(LINES.encode("utf-16")[:-1])
    with pytest.raises(UserError, match=r"data\.jsonl: cannot be read"):
        read_problems(f"jsonl:{path}")


def test_members_of_a_zip_archive_are_read(tmp_path):
    first, second = LINES.splitlines()
    path = tmp_path / "data.jsonl.zip"
    zipped(path, {"x/one.jsonl": first, "x/two.json": f"[{second}]", "README.md": "not data"})
    assert [problem.task_id for problem in read_problems(f"jsonl:{path}")] == ["a", "b"]
    zipped(path, {"one.jsonl": first + "\n{"})
    with pytest.raises(UserError, match=r"data\.jsonl\.zip, one\.jsonl, line 2: "):
        read_problems(f"jsonl:{path}")
    zipped(path, {"README.md": "not data"})
    with pytest.raises(UserError, match="an archive without"):
        read_problems(f"jsonl:{path}")
    path.write_bytes(b"PK nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read_problems(f"jsonl:{path}")


@pytest.mark.skipif(find_spec("zstandard") is not None, reason="zstandard is installed")
def test_the_package_that_reads_zst_is_named(tmp_path):
    path = tmp_path / "data.jsonl.zst"
    path.write_bytes(b"")
    with pytest.raises(UserError, match="pip install zstandard"):
        read_problems(f"jsonl:{path}")


def test_zst_is_read_where_zstandard_is_installed(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "data.jsonl.zst"
    path.write_bytes(zstandard.compress(LINES.encode()))
    assert len(read_problems(f"jsonl:{path}")) == 2
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        read_problems(f"jsonl:{path}")


def test_files_that_are_no_data_do_not_disturb(tmp_path):
    (tmp_path / "data.jsonl").write_text(LINES, encoding="utf-8")
    (tmp_path / "dataset_infos.json").write_text("{}")
    (tmp_path / "labels.json").write_text("[1, 2]")
    (tmp_path / "README.md").write_text("# Data")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "old.jsonl").write_text(LINES)
    (tmp_path / "folder.jsonl").mkdir()
    assert len(read_problems(f"jsonl:{tmp_path}")) == 2


def test_a_list_is_found_beside_what_tools_write(tmp_path):
    (tmp_path / "problems.json").write_text(LIST, encoding="utf-8")
    (tmp_path / "package.json").write_text('{"name": "x"}')
    assert len(read_problems(f"jsonl:{tmp_path}")) == 2


@pytest.mark.parametrize(
    ("source", "path", "split"),
    [
        ("mbpp:owner/name@test", "owner/name", "test"),
        ("mbpp:owner/name@v1.0@test", "owner/name@v1.0", "test"),
        ("mbpp:owner/name/folder@refs/pr/1@train", "owner/name/folder@refs/pr/1", "train"),
        ("mbpp:owner/name@0123abc", "owner/name@0123abc", None),
        ("mbpp:file.jsonl@2024", "file.jsonl", "2024"),
    ],
)  # fmt: skip
def test_a_hub_id_may_name_its_revision(source, path, split):
    assert parse_source(source) == ("mbpp", path, split)
