"""A file appears whole under its name, or not at all."""

import ast
import os
from pathlib import Path

import pytest

from zerocoder_jax.atomic_write import write_atomically


def test_text_and_pieces_are_written_and_nothing_lies_beside_them(tmp_path: Path) -> None:
    write_atomically(tmp_path / "one.json", "eins\n")
    write_atomically(tmp_path / "two.jsonl", (f"{number}\n" for number in range(3)))
    assert (tmp_path / "one.json").read_text() == "eins\n"
    assert (tmp_path / "two.jsonl").read_text() == "0\n1\n2\n"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("moment", ["while it is written", "before the rename"])
def test_where_writing_fails_the_old_file_stays_and_no_half_of_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")

    def pieces():
        yield "new"
        if moment == "while it is written":
            raise KeyboardInterrupt

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    if moment == "before the rename":
        monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, pieces())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_characters_that_no_file_can_hold_are_an_error_unless_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "page.html", "\ud83d")
    assert not list(tmp_path.iterdir())
    write_atomically(tmp_path / "page.html", "\ud83d", errors="replace")
    assert (tmp_path / "page.html").read_text() == "?"


def test_nobody_renames_files_by_hand(repository: Path) -> None:
    """One place replaces files; what saves weights, checkpoints and records renames folders."""
    renaming = set()
    for folder in ("zerocoder_jax", "launch"):
        for path in (repository / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                owner, name = node.func.value, node.func.attr
                is_os = isinstance(owner, ast.Name) and owner.id == "os"
                # Texts have a replace of their own, with two arguments.
                is_path = name == "rename" or (name == "replace" and len(node.args) == 1)
                if (is_os and name in ("replace", "rename")) or (is_path and not node.keywords):
                    renaming.add(path.relative_to(repository).as_posix())
    assert renaming == {
        "zerocoder_jax/atomic_write.py",
        "zerocoder_jax/policy/saving.py",
        "zerocoder_jax/training/checkpoints.py",
        "zerocoder_jax/training/records.py",
    }
