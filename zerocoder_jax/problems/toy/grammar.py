"""How toy problems are put together: a final phrase said of a part of the argument.

"the sum of | the even numbers of xs" is the final phrase ``sum`` over the part ``even``. Statement
and code are built in the same way from the same two phrases, so every pair of phrases whose types
fit is a family of problems, and families that were never seen can still be understood by whoever
understood both of their phrases.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

# What a phrase takes and gives; "any" is only taken.
Kind = Literal["number", "numbers", "text", "texts", "truth", "entries", "any"]

OPENERS = ("Return", "Compute", "Find", "Give")

# Every toy solution defines this name: what to do stands in the statement alone.
ENTRY_POINT = "solve"

Parameter = int | str | None


@dataclass(frozen=True)
class Phrase:
    """One piece of a statement and the expression that means it.

    Attributes:
      name: unique within its table.
      wording: ``{}`` is what the phrase is said of, ``{k}`` its parameter; ``(a|b)`` are
        alternatives that mean the same.
      code: the expression, with the same two marks.
      takes: kind of value that ``{}`` is.
      gives: kind of the expression's value.
      parameters: the values that ``{k}`` takes; empty when there is none.
      slips: expressions that are nearly right.
      mistaken_for: names of phrases of the same table that careless readers confuse it with.
    """

    name: str
    wording: str
    code: str
    takes: Kind
    gives: Kind
    parameters: tuple[int, ...] | tuple[str, ...] = ()
    slips: tuple[str, ...] = ()
    mistaken_for: tuple[str, ...] = ()

    def expression(self, inner: str, parameter: Parameter, template: str = "") -> str:
        """The code, or another ``template`` of it, said of ``inner``."""
        return (template or self.code).replace("{k}", str(parameter)).replace("{}", inner)

    def wordings(self, inner: str, parameter: Parameter) -> Iterator[str]:
        """Every way to say it of ``inner``."""
        for words in _alternatives(self.wording):
            yield words.replace("{k}", str(parameter)).replace("{}", inner)


@dataclass(frozen=True)
class Domain:
    """A kind of argument: its name in the signature and the phrases that apply to it."""

    name: str
    argument: str
    parts: dict[str, Phrase]
    finals: dict[str, Phrase]


@dataclass(frozen=True)
class Family:
    """All problems that say one final phrase of one part."""

    domain: Domain
    part: Phrase
    final: Phrase

    @property
    def name(self) -> str:
        """Unique among all families."""
        return f"{self.domain.name}/{self.part.name}/{self.final.name}"

    @cached_property
    def parameters(self) -> tuple[tuple[Parameter, Parameter], ...]:
        """Every pair of parameters of the part and of the final phrase."""
        return tuple(
            itertools.product(self.part.parameters or (None,), self.final.parameters or (None,))
        )


@dataclass(frozen=True)
class Steps:
    """A solution as two expressions: the part of the argument, and the result from ``{}``."""

    argument: str
    part: str
    final: str

    @property
    def in_one_line(self) -> str:
        """The program that returns one nested expression."""
        expression = self.final.replace("{}", self.part)
        return f"{self.signature}\n    return {expression}"

    @property
    def in_two_steps(self) -> str:
        """The program that names the part first."""
        result = self.final.replace("{}", "part")
        return f"{self.signature}\n    part = {self.part}\n    return {result}"

    @property
    def signature(self) -> str:
        """The ``def`` line."""
        return f"def {ENTRY_POINT}({self.argument}):"

    def __call__(self, argument: Any) -> Any:
        """The value for ``argument``; raises whatever the program raises."""
        return _compiled(self.argument, self.final.replace("{}", self.part))(argument)


@dataclass(frozen=True)
class Instance:
    """A family with its parameters: everything about a problem but its wording."""

    family: Family
    part_parameter: Parameter
    final_parameter: Parameter

    @property
    def name(self) -> str:
        """Unique among all instances."""
        parameters = [self.part_parameter, self.final_parameter]
        return "/".join([self.family.name, *(str(p) for p in parameters if p is not None)])

    def wordings(self) -> list[str]:
        """Every statement of the problem."""
        family = self.family
        return [
            f"{opener} {body}."
            for part in family.part.wordings(family.domain.argument, self.part_parameter)
            for body in family.final.wordings(part, self.final_parameter)
            for opener in OPENERS
        ]

    @cached_property
    def solution(self) -> Steps:
        """The right solution."""
        return self._steps(self.family.part, self.family.final)

    @cached_property
    def mistakes(self) -> tuple[Steps, ...]:
        """Wrong readings and slips, without the right solution and without repetition.

        Some of them may compute the same as the solution; whoever needs wrong values checks.
        """
        return tuple(dict.fromkeys(s for s in self._mistakes() if s != self.solution))

    def _mistakes(self) -> Iterator[Steps]:
        part, final, domain = self.family.part, self.family.final, self.family.domain
        for name in part.mistaken_for:
            other = domain.parts[name]
            if not other.parameters or self.part_parameter is not None:
                yield self._steps(other, final)
        for name in final.mistaken_for:
            other = domain.finals[name]
            if not other.parameters or self.final_parameter is not None:
                yield self._steps(part, other)
        for slip in part.slips:
            yield self._steps(part, final, part_template=slip)
        for slip in final.slips:
            yield self._steps(part, final, final_template=slip)
        if final.takes == domain.parts["whole"].gives:
            yield self._steps(domain.parts["whole"], final)  # the part is overlooked
        for near in _near(self.part_parameter, part.parameters):
            yield self._steps(part, final, part_parameter=near)
        for near in _near(self.final_parameter, final.parameters):
            yield self._steps(part, final, final_parameter=near)

    def _steps(
        self,
        part: Phrase,
        final: Phrase,
        *,
        part_template: str = "",
        final_template: str = "",
        part_parameter: Parameter = None,
        final_parameter: Parameter = None,
    ) -> Steps:
        argument = self.family.domain.argument
        k = self.part_parameter if part_parameter is None else part_parameter
        m = self.final_parameter if final_parameter is None else final_parameter
        return Steps(
            argument=argument,
            part=part.expression(argument, k, part_template),
            final=final.expression("{}", m, final_template),
        )


def table(*phrases: Phrase) -> dict[str, Phrase]:
    """Phrases by name."""
    return {phrase.name: phrase for phrase in phrases}


def _near(parameter: Parameter, parameters: tuple[Any, ...]) -> tuple[Parameter, ...]:
    """The parameters that a slip of one turns ``parameter`` into."""
    if isinstance(parameter, int):
        return tuple(p for p in (parameter + 1, parameter - 1) if p >= 0)
    if isinstance(parameter, str):
        position = parameters.index(parameter)
        return (parameters[(position + 1) % len(parameters)],)
    return ()


@cache
def _alternatives(wording: str) -> tuple[str, ...]:
    """The texts that ``(a|b)`` groups stand for."""
    pieces = re.split(r"\(([^()]*)\)", wording)  # text, group, text, group, ..., text
    options = [p.split("|") if i % 2 else [p] for i, p in enumerate(pieces)]
    return tuple("".join(choice) for choice in itertools.product(*options))


@cache
def _compiled(argument: str, expression: str) -> Callable[[Any], Any]:
    # The expressions are the tables' own: nothing that a model wrote comes here. Python's set has
    # its letters in another order in every process, and problems are the same in all.
    return eval(f"lambda {argument}: {expression}", {"set": lambda letters: sorted({*letters})})
