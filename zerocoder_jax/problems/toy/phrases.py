"""The phrases of the four domains, and which of them make families.

Arguments: a list of digits ``xs``, a natural number ``n``, a string of few letters ``s`` and a
dictionary from letters to digits ``d``.
"""

from zerocoder_jax.problems.toy.grammar import Domain, Family, Phrase, table

LETTERS = ("a", "b", "c", "d", "e")
_DIGITS = (2, 3, 4, 5, 6, 7)

_WHOLE_NUMBERS = Phrase("whole", "({}|the numbers of {})", "{}", "numbers", "numbers")
_ITSELF = Phrase("itself", "{}", "{}", "any", "any")

_NUMBERS_PARTS = table(
    _WHOLE_NUMBERS,
    Phrase(
        "above",
        "the numbers of {} (greater than|above) {k}",
        "[x for x in {} if x > {k}]",
        "numbers",
        "numbers",
        _DIGITS,
        slips=("[x for x in {} if x >= {k}]",),
        mistaken_for=("below",),
    ),
    Phrase(
        "below",
        "the numbers of {} (less than|below) {k}",
        "[x for x in {} if x < {k}]",
        "numbers",
        "numbers",
        _DIGITS,
        slips=("[x for x in {} if x <= {k}]",),
        mistaken_for=("above",),
    ),
    Phrase(
        "even",
        "the even numbers of {}",
        "[x for x in {} if x % 2 == 0]",
        "numbers",
        "numbers",
        slips=("[x for x in {} if x % 2 == 2]",),
        mistaken_for=("odd",),
    ),
    Phrase(
        "odd",
        "the odd numbers of {}",
        "[x for x in {} if x % 2 == 1]",
        "numbers",
        "numbers",
        slips=("[x for x in {} if x % 2 > 1]",),
        mistaken_for=("even",),
    ),
    Phrase(
        "first",
        "the first {k} numbers of {}",
        "{}[:{k}]",
        "numbers",
        "numbers",
        (1, 2, 3),
        slips=("{}[-{k}:]",),
        mistaken_for=("after",),
    ),
    Phrase(
        "after",
        "the numbers of {} (after|behind) the first {k}",
        "{}[{k}:]",
        "numbers",
        "numbers",
        (1, 2, 3),
        slips=("{}[:-{k}]",),
        mistaken_for=("first",),
    ),
    Phrase(
        "plus",
        "the numbers of {} each (plus|increased by) {k}",
        "[x + {k} for x in {}]",
        "numbers",
        "numbers",
        (1, 2, 3, 4),
        slips=("({} + [{k}])",),
        mistaken_for=("times",),
    ),
    Phrase(
        "times",
        "the numbers of {} each (times|multiplied by) {k}",
        "[x * {k} for x in {}]",
        "numbers",
        "numbers",
        (2, 3, 4),
        slips=("({} * {k})",),
        mistaken_for=("plus",),
    ),
)

_NUMBERS_FINALS = table(
    _ITSELF,
    Phrase(
        "count",
        "the (number|count) of {}",
        "len({})",
        "any",
        "number",
        slips=("len({}) + 1", "len({}) - 1"),
    ),
    Phrase(
        "sum",
        "the (sum|total) of {}",
        "sum({})",
        "numbers",
        "number",
        slips=("len({})",),
        mistaken_for=("largest",),
    ),
    Phrase(
        "largest",
        "the (largest|biggest) of {}, or 0",
        "max({}, default=0)",
        "numbers",
        "number",
        mistaken_for=("smallest", "sum"),
    ),
    Phrase(
        "smallest",
        "the smallest of {}, or 0",
        "min({}, default=0)",
        "numbers",
        "number",
        mistaken_for=("largest",),
    ),
    Phrase(
        "reversed",
        "{} (reversed|in reverse order)",
        "{}[::-1]",
        "numbers",
        "numbers",
        slips=("{}[::1]",),
        mistaken_for=("sorted",),
    ),
    Phrase(
        "sorted",
        "{} (sorted|in ascending order)",
        "sorted({})",
        "any",
        "any",
        slips=("{}", "sorted({}, reverse=True)"),
    ),
    Phrase(
        "contains",
        "whether {k} is (one of|among) {}",
        "{k} in {}",
        "numbers",
        "truth",
        _DIGITS,
        slips=("{k} not in {}", "{k} < len({})"),
    ),
)

_NUMBER_PARTS = table(
    Phrase("whole", "{}", "{}", "number", "number"),
    Phrase(
        "square",
        "the square of {}",
        "{} ** 2",
        "number",
        "number",
        slips=("{} ** 3",),
        mistaken_for=("double",),
    ),
    Phrase(
        "double",
        "(twice {}|the double of {})",
        "{} * 2",
        "number",
        "number",
        slips=("{} + 2",),
        mistaken_for=("square",),
    ),
    Phrase(
        "last_digit",
        "the last digit of {}",
        "{} % 10",
        "number",
        "number",
        mistaken_for=("without_last",),
    ),
    Phrase(
        "without_last",
        "{} without its last digit",
        "{} // 10",
        "number",
        "number",
        mistaken_for=("last_digit",),
    ),
    Phrase(
        "digit_sum",
        "the (sum|total) of the digits of {}",
        "sum(int(x) for x in str({}))",
        "number",
        "number",
        mistaken_for=("digit_count",),
    ),
    Phrase(
        "digit_count",
        "the (number|count) of digits of {}",
        "len(str({}))",
        "number",
        "number",
        mistaken_for=("digit_sum",),
    ),
)

_NUMBER_FINALS = table(
    _ITSELF,
    Phrase(
        "plus",
        "{} (plus|increased by) {k}",
        "{} + {k}",
        "number",
        "number",
        _DIGITS,
        mistaken_for=("times", "minus"),
    ),
    Phrase(
        "minus",
        "{} (minus|decreased by) {k}",
        "{} - {k}",
        "number",
        "number",
        _DIGITS,
        slips=("{k} - {}",),
        mistaken_for=("plus",),
    ),
    Phrase(
        "times",
        "{} (times|multiplied by) {k}",
        "{} * {k}",
        "number",
        "number",
        (2, 3, 4, 5),
        slips=("{} ** {k}",),
        mistaken_for=("plus",),
    ),
    Phrase(
        "remainder",
        "the remainder of {} (by|divided by) {k}",
        "{} % {k}",
        "number",
        "number",
        (2, 3, 4, 5),
        slips=("{} // {k}",),
    ),
    Phrase(
        "larger",
        "the (larger|bigger) of {} and {k}",
        "max({}, {k})",
        "number",
        "number",
        _DIGITS,
        mistaken_for=("smaller",),
    ),
    Phrase(
        "smaller",
        "the smaller of {} and {k}",
        "min({}, {k})",
        "number",
        "number",
        _DIGITS,
        mistaken_for=("larger",),
    ),
    Phrase(
        "above",
        "whether {} is (greater than|above) {k}",
        "{} > {k}",
        "number",
        "truth",
        _DIGITS,
        slips=("{} >= {k}", "{} < {k}"),
    ),
    Phrase(
        "even",
        "whether {} is even",
        "{} % 2 == 0",
        "number",
        "truth",
        slips=("{} % 2 == 1", "{} % 2 == 2"),
    ),
)

_TEXT_PARTS = table(
    Phrase("whole", "{}", "{}", "text", "text"),
    Phrase(
        "reversed",
        "{} (reversed|in reverse order)",
        "{}[::-1]",
        "text",
        "text",
        slips=("{}[::1]",),
        mistaken_for=("sorted",),
    ),
    Phrase(
        "upper",
        "{} in upper case",
        "{}.upper()",
        "text",
        "text",
        slips=("{}.lower()", "{}.title()"),
    ),
    Phrase(
        "first",
        "the first {k} letters of {}",
        "{}[:{k}]",
        "text",
        "text",
        (1, 2, 3),
        slips=("{}[-{k}:]",),
        mistaken_for=("after",),
    ),
    Phrase(
        "after",
        "the letters of {} (after|behind) the first {k}",
        "{}[{k}:]",
        "text",
        "text",
        (1, 2, 3),
        slips=("{}[:-{k}]",),
        mistaken_for=("first",),
    ),
    Phrase(
        "sorted",
        "the letters of {} in (sorted|alphabetical) order",
        "''.join(sorted({}))",
        "text",
        "text",
        slips=("''.join(set({}))",),
        mistaken_for=("reversed",),
    ),
    Phrase(
        "without",
        "{} without '{k}'",
        "{}.replace('{k}', '')",
        "text",
        "text",
        LETTERS,
        slips=("{}.strip('{k}')", "({} + '{k}')"),
    ),
)

_TEXT_FINALS = table(
    _ITSELF,
    Phrase(
        "length",
        "the (length|number of letters) of {}",
        "len({})",
        "text",
        "number",
        slips=("len({}) - 1", "len(set({}))"),
    ),
    Phrase(
        "twice",
        "{} (twice|repeated twice)",
        "{} * 2",
        "text",
        "text",
        slips=("{} * 3", "{} + '2'"),
    ),
    Phrase(
        "followed",
        "{} followed by '{k}'",
        "{} + '{k}'",
        "text",
        "text",
        LETTERS,
        mistaken_for=("preceded",),
    ),
    Phrase(
        "preceded",
        "{} preceded by '{k}'",
        "'{k}' + {}",
        "text",
        "text",
        LETTERS,
        mistaken_for=("followed",),
    ),
    Phrase(
        "count",
        "how often '{k}' (occurs|is) in {}",
        "{}.count('{k}')",
        "text",
        "number",
        LETTERS,
        slips=("{}.find('{k}')",),
        mistaken_for=("contains",),
    ),
    Phrase(
        "contains",
        "whether '{k}' (occurs|is) in {}",
        "'{k}' in {}",
        "text",
        "truth",
        LETTERS,
        slips=("'{k}' not in {}",),
        mistaken_for=("starts",),
    ),
    Phrase(
        "starts",
        "whether {} (starts|begins) with '{k}'",
        "{}.startswith('{k}')",
        "text",
        "truth",
        LETTERS,
        slips=("{}.endswith('{k}')",),
        mistaken_for=("contains",),
    ),
)

_ENTRIES_PARTS = table(
    Phrase("whole", "{}", "{}", "entries", "entries"),
    Phrase(
        "values",
        "the values of {}",
        "list({}.values())",
        "entries",
        "numbers",
        mistaken_for=("keys",),
    ),
    Phrase("keys", "the keys of {}", "list({})", "entries", "texts", mistaken_for=("values",)),
    Phrase(
        "values_above",
        "the values of {} (greater than|above) {k}",
        "[x for x in {}.values() if x > {k}]",
        "entries",
        "numbers",
        _DIGITS,
        slips=("[x for x in {}.values() if x >= {k}]",),
        mistaken_for=("values_below", "values"),
    ),
    Phrase(
        "values_below",
        "the values of {} (less than|below) {k}",
        "[x for x in {}.values() if x < {k}]",
        "entries",
        "numbers",
        _DIGITS,
        slips=("[x for x in {}.values() if x <= {k}]",),
        mistaken_for=("values_above", "values"),
    ),
    Phrase(
        "keys_above",
        "the keys of {} with a value (greater than|above) {k}",
        "[x for x in {} if {}[x] > {k}]",
        "entries",
        "texts",
        _DIGITS,
        slips=("[x for x in {} if {}[x] >= {k}]",),
        mistaken_for=("keys_below", "keys"),
    ),
    Phrase(
        "keys_below",
        "the keys of {} with a value (less than|below) {k}",
        "[x for x in {} if {}[x] < {k}]",
        "entries",
        "texts",
        _DIGITS,
        slips=("[x for x in {} if {}[x] <= {k}]",),
        mistaken_for=("keys_above", "keys"),
    ),
)

_ENTRIES_FINALS = _NUMBERS_FINALS | table(
    Phrase(
        "lookup",
        "the value of '{k}' in {}, or 0",
        "{}.get('{k}', 0)",
        "entries",
        "number",
        LETTERS,
        slips=("{}.get('{k}', 1)", "len({})"),
    ),
    Phrase(
        "has",
        "whether '{k}' is (one of|among) {}",
        "'{k}' in {}",
        "texts",
        "truth",
        LETTERS,
        slips=("'{k}' not in {}", "'{k}' == {}"),
    ),
)

NUMBERS = Domain("numbers", "xs", _NUMBERS_PARTS, _NUMBERS_FINALS)
NUMBER = Domain("number", "n", _NUMBER_PARTS, _NUMBER_FINALS)
TEXT = Domain("text", "s", _TEXT_PARTS, _TEXT_FINALS)
ENTRIES = Domain("entries", "d", _ENTRIES_PARTS, _ENTRIES_FINALS)

# For each part, the final phrases that are said of it. A star marks a family that only toy:test
# has: both of its phrases are known from other families, their combination is not.
_FINALS_OF_PARTS: dict[str, tuple[Domain, dict[str, str]]] = {
    "numbers": (
        NUMBERS,
        {
            "whole": "count sum largest smallest reversed sorted contains",
            "above": "itself count sum* largest smallest reversed sorted",
            "below": "itself count sum largest smallest reversed* sorted",
            "even": "itself count sum largest* smallest reversed sorted",
            "odd": "itself count* sum largest smallest reversed sorted",
            "first": "itself sum largest smallest* reversed sorted",
            "after": "itself sum* largest smallest reversed sorted",
            "plus": "itself sum reversed sorted*",
            "times": "itself sum reversed* sorted",
        },
    ),
    "number": (
        NUMBER,
        {
            "whole": "plus minus times remainder larger smaller above even",
            "square": "itself plus minus* above",
            "double": "itself plus minus remainder* larger above",
            "last_digit": "itself plus* times smaller above even",
            "without_last": "itself plus times above* even",
            "digit_sum": "itself plus times* above even",
            "digit_count": "itself plus times above",
        },
    ),
    "text": (
        TEXT,
        {
            "whole": "length twice followed preceded count contains starts",
            "reversed": "itself twice* followed preceded starts",
            "upper": "itself twice followed*",
            "first": "itself twice followed preceded* count contains",
            "after": "itself length twice followed count* contains starts",
            "sorted": "itself twice followed starts",
            "without": "itself length twice followed preceded starts*",
        },
    ),
    "entries": (
        ENTRIES,
        {
            "whole": "lookup",
            "values": "sum largest smallest sorted count",
            "keys": "itself sorted has",
            "values_above": "itself sum count",
            "values_below": "itself sum* count",
            "keys_above": "itself count sorted",
            "keys_below": "itself count* sorted",
        },
    ),
}


def _families() -> dict[str, tuple[Family, bool]]:
    families = {}
    for domain, finals_of_parts in _FINALS_OF_PARTS.values():
        for part, finals in finals_of_parts.items():
            for final in finals.split():
                unseen = final.endswith("*")
                final_phrase = domain.finals[final.removesuffix("*")]
                family = Family(domain, domain.parts[part], final_phrase)
                families[family.name] = (family, unseen)
    return families


_FAMILIES = _families()
# Families that training and testing share, and those that only testing has.
SEEN_FAMILIES = tuple(family for family, unseen in _FAMILIES.values() if not unseen)
UNSEEN_FAMILIES = tuple(family for family, unseen in _FAMILIES.values() if unseen)
