"""Real replies, each read by a person: none is refused or accepted wrongly.

Of Qwen2.5-Coder-0.5B-Instruct, recorded by tests/data/record_replies.py and
tests/data/record_replies_of_all_kinds.py, labelled with tests/data/label_replies.py.
"""

import collections
import gzip
import json
import sys

import pytest


@pytest.fixture(scope="module")
def labelled(repository):
    data = repository / "tests" / "data"
    with gzip.open(data / "labelled_replies.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def label_of(repository):
    sys.path.insert(0, str(repository / "tests" / "data"))
    try:
        from label_replies import label_of
    finally:
        sys.path.pop(0)
    return label_of


def test_every_reply_is_parsed_as_a_person_read_it(labelled, label_of):
    for record in labelled:
        expected = {name: record[name] for name in ("label", "lines", "test") if name in record}
        assert label_of(record) == expected, record["reply"]


def table_of(labelled):
    """The table in docs/problems.md."""
    rows = collections.defaultdict(collections.Counter)
    for record in labelled:
        entry_point = record["entry_point"]
        kind = "program" if entry_point is None else "method" if "." in entry_point else "function"
        rows[record["role"], kind, record["style"]][record["label"]] += 1
    lines = [
        "| role | problem | prompt | replies | accepted | refused |",
        "|---|---|---|---|---|---|",
    ]
    for (role, kind, style), labels in sorted(rows.items()):
        accepted = labels.pop("accepted", 0)
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(labels.items()))
        total = accepted + sum(labels.values())
        lines.append(f"| {role} | {kind} | {style} | {total} | {accepted} | {refused or 0} |")
    return "\n".join(lines)


def test_the_table_of_the_manual_is_that_of_these_replies(repository, labelled):
    assert len(labelled) >= 200
    page = (repository / "docs" / "problems.md").read_text(encoding="utf-8")
    assert table_of(labelled) in page
