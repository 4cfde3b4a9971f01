"""A table of programs compiles each of them once, and nothing else."""

from zerocoder_jax.parallel.program_table import ProgramTable


class Lowered:
    def __init__(self, made: list[tuple[str, int]], name: tuple[str, int]):
        self._made, self._name = made, name

    def compile(self) -> tuple[str, int]:
        self._made.append(self._name)
        return self._name


def test_a_program_is_compiled_when_it_is_first_asked_for_and_never_again() -> None:
    made: list[tuple[str, int]] = []
    table = ProgramTable(lambda *name: Lowered(made, name))
    assert len(table) == 0
    assert table["decode", 4] == table["decode", 4] == ("decode", 4)
    assert made == [("decode", 4)] and len(table) == 1


def test_ahead_of_their_use_only_the_missing_ones_are_compiled() -> None:
    made: list[tuple[str, int]] = []
    table = ProgramTable(lambda *name: Lowered(made, name))
    table["decode", 4]
    table.compile([("decode", 4), ("decode", 8), ("prefill", 64), ("prefill", 64)])
    assert sorted(made) == [("decode", 4), ("decode", 8), ("prefill", 64)]
    assert table["prefill", 64] == ("prefill", 64) and len(made) == len(table) == 3
    assert table.seconds > 0
