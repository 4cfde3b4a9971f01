"""Samples are packed once, cut where they are endless, and left out evenly where they are many."""

import base64
import json
import os
import zlib

import pytest

from zerocoder_jax.report import read_run, samples
from zerocoder_jax.report.samples import MAX_CHARACTERS, PackedStep, pack_run, pack_step


def unpack(packed):
    return json.loads(zlib.decompress(base64.b64decode(packed.payload)))


def write_step(directory, records):
    path = directory / "rollouts" / "step_000000.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_packed_step_holds_its_file(short_run):
    run = read_run(short_run)
    for step, path in run.rollout_files.items():
        records = [json.loads(line) for line in path.read_text().splitlines()]
        packed = pack_step(step, path)
        assert unpack(packed) == records
        assert [summary[0] for summary in packed.summaries] == [r["task_id"] for r in records]


def test_the_summary_counts_what_a_list_shows(tmp_path):
    record = {
        "task_id": "a/1",
        "rank": 2,
        "calibration": True,
        "statuses": [["PASSED", "FAILED"], ["PASSED", "UNPARSABLE"]],
        "solutions": [{"selected": True}, {"selected": False}],
        "selection": {"abstained": False},
    }
    packed = pack_step(0, write_step(tmp_path, [record, {"task_id": "a/2"}]))
    assert packed.summaries == [
        ["a/1", 0.5, 2, False, True, 1],
        ["a/2", None, None, False, False, 0],
    ]


def test_lone_surrogates_of_a_reply_survive(tmp_path):
    path = write_step(tmp_path, [{"task_id": "a", "prompt": "\ud83d"}])
    assert unpack(pack_step(0, path))[0]["prompt"] == "\ud83d"


def test_an_endless_text_is_cut_and_says_so(tmp_path):
    record = {"task_id": "a", "solutions": [{"reply": "x" * (MAX_CHARACTERS + 5), "code": "y"}]}
    solution = unpack(pack_step(0, write_step(tmp_path, [record])))[0]["solutions"][0]
    assert solution["reply"].endswith("x\n[... 5 characters are left out of this page]")
    assert solution["code"] == "y"


def test_a_step_is_packed_once_until_its_file_changes(tmp_path, monkeypatch):
    path = write_step(tmp_path, [{"task_id": "a"}])
    first = pack_step(0, path)
    with monkeypatch.context() as patch:
        patch.setattr(samples, "read_lines", lambda _: pytest.fail("packed again"))
        assert pack_step(0, path) == first
    write_step(tmp_path, [{"task_id": "b"}])
    os.utime(path, ns=(1, 1))  # another time even on a disk with coarse clocks
    assert pack_step(0, path).summaries[0][0] == "b"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"key": 1', '{"key": null}'])
def test_a_broken_cache_is_made_again(tmp_path, content):
    path = write_step(tmp_path, [{"task_id": "a"}])
    first = pack_step(0, path)
    (cache,) = (tmp_path / "rollouts" / ".packed").iterdir()
    cache.write_text(content)
    assert pack_step(0, path) == first
    assert json.loads(cache.read_text())["payload"] == first.payload


def test_steps_beyond_the_limit_are_left_out_evenly_and_the_newest_stays():
    steps = [PackedStep(n, [], "x" * 10) for n in range(10)]
    assert [one.step for one in samples._thin(steps, 100)] == list(range(10))
    assert [one.step for one in samples._thin(steps, 50)] == [1, 3, 5, 7, 9]
    assert [one.step for one in samples._thin(steps, 45)] == [0, 3, 6, 9]
    assert [one.step for one in samples._thin(steps, 1)] == [9]
    assert samples._thin([], 1) == []


def test_a_run_tells_how_many_steps_it_has(short_run):
    kept, available = pack_run(read_run(short_run), 1)
    assert ([one.step for one in kept], available) == ([7], 8)
