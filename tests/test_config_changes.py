"""Every field of a config says whether a run that is continued may change it."""

import fnmatch
import json

from configs.base import get_config
from zerocoder_jax.command_line import read_config_json, write_config_json
from zerocoder_jax.config_changes import CHANGEABLE, CLASSES, FIXED, FREE, changes, class_of


def fields(tree: dict, prefix: str = "") -> list[str]:
    found = []
    for name, value in tree.items():
        found += fields(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return found


def test_every_field_is_declared_and_every_declaration_is_of_a_field() -> None:
    names = fields(get_config().to_dict())
    for name in names:
        assert any(fnmatch.fnmatchcase(name, pattern) for pattern, _ in CLASSES), name
    for pattern, _ in CLASSES:
        assert fnmatch.filter(names, pattern), pattern


def test_where_a_run_computes_is_free_what_it_learns_is_said_and_its_state_is_fixed() -> None:
    assert {class_of(name) for name in ("steps", "mesh.fsdp", "policy.source")} == {FREE}
    assert {class_of(n) for n in ("optimizer.learning_rate", "execution.seconds")} == {CHANGEABLE}
    assert {class_of(name) for name in ("seed", "policy.lora.rank")} == {FIXED}


def test_a_field_that_was_added_since_had_its_default() -> None:
    current = get_config().to_dict()
    saved = get_config().to_dict()
    del saved["grpo"]["clip_high"], saved["logging"]
    assert changes(saved, current) == []
    current["grpo"]["clip_high"] = 0.28
    assert [str(one) for one in changes(saved, current)] == [
        "config.grpo.clip_high: 0.2 then, 0.28 now"
    ]


def test_the_config_of_an_older_run_is_read_with_the_defaults_of_what_it_lacks(tmp_path) -> None:
    write_config_json(tmp_path, get_config())
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["written_by"]["schema"] == 1
    del fields["execution"]["seconds"], fields["written_by"]
    fields["grpo"]["clip_low"] = 0.1
    (tmp_path / "config.json").write_text(json.dumps(fields))
    config = read_config_json(tmp_path)
    assert (config.execution.seconds, config.grpo.clip_low) == (3.0, 0.1)
    assert config.is_locked


def test_a_field_that_is_gone_since_is_said() -> None:
    saved = get_config().to_dict() | {"gamma": 0.9}
    assert [(one.field, one.kind) for one in changes(saved, get_config().to_dict())] == [
        ("gamma", CHANGEABLE)
    ]
