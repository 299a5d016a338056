"""Numbers as people write them: separators, currency, units, fractions, words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_UNITS = "°|°c|°f|%|percent|degrees?|mm|cm|m|km|mg|g|kg|ml|l|s|h|million|billion|thousand"
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_NUMBER = re.compile(
    rf"(?P<sign>[-+])?[$€£¥]?(?P<whole>\d{{1,3}}(?:,\d{{3}})+|\d+)?(?P<decimals>\.\d+)?(?:/(?P<below>\d+))?(?P<unit>{_UNITS})?"
)
# fmt: off
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on
_WORDS = {word: n for n, word in enumerate(_ONES)} | {word: 10 * n for n, word in enumerate(_TENS, start=2)}
_MULTIPLIERS = {"hundred": 100, "thousand": 1000, "million": 10**6}


@dataclass(frozen=True)
class Numeral:
    """A number and whether it was written as a percentage."""

    value: Fraction
    is_percent: bool = False

    def means(self, other: Numeral) -> bool:
        """Equal as written, or one is the percentage of the other (50 % and 0.5)."""
        if self.value == other.value:
            return True
        if self.is_percent is other.is_percent:
            return False
        percent, plain = (self, other) if self.is_percent else (other, self)
        return percent.value / 100 == plain.value


def numerals(text: str) -> list[Numeral]:
    """The numbers in ``text``, in order: those in digits, or, if there are none, those in words."""
    tokens = _tokens(text)
    in_digits = []
    for place, token in enumerate(tokens):
        number = _in_digits(token, tokens[place + 1] if place + 1 < len(tokens) else "")
        if number is not None:
            in_digits.append(number)
    return in_digits or _in_words(tokens)


def numeral(text: str) -> Numeral | None:
    """The number that ``text`` as a whole is (a unit behind it may stand), else None."""
    found = numerals(text)
    tokens = _tokens(text)
    if len(found) != 1:
        return None
    if any(token[0].isdigit() or token[0] in "-+$€£¥." for token in tokens[:1]):
        return found[0] if len(tokens) <= 2 else None
    return found[0] if all(t in _WORDS or t in _MULTIPLIERS or t in ("and", "minus") for t in tokens) else None


def as_digits(word: str) -> str:
    """A number word below one hundred in digits, any other word as it is."""
    return str(_WORDS[word]) if word in _WORDS else word


def _tokens(text: str) -> list[str]:
    plain = text.casefold().replace("−", "-").replace("–", "-").replace("½", "1/2").replace("¼", "1/4")
    words = re.split(r"[\s=*]+", plain)
    stripped = [word.strip("\"'`()[]{}:;!?").rstrip(".,").strip("\"'`()[]{}") for word in words]
    return [word for word in stripped if word]


def _in_digits(token: str, following: str) -> Numeral | None:
    match = _NUMBER.fullmatch(token)
    if match is None or not (match["whole"] or match["decimals"]):
        return None
    if match["below"] and int(match["below"]) == 0:
        return None
    value = Fraction((match["whole"] or "0").replace(",", "") + (match["decimals"] or ""))
    value = value / int(match["below"]) if match["below"] else value
    value = -value if match["sign"] == "-" else value
    unit = match["unit"] or following
    return Numeral(value * _SCALES.get(unit, 1), is_percent=unit in ("%", "percent"))


def _in_words(tokens: list[str]) -> list[Numeral]:
    """Runs of number words: ``twenty-one``, ``two hundred and five``, ``minus three``."""
    found: list[Numeral] = []
    words = [part for token in tokens for part in token.split("-") if part]
    total = group = None
    sign = 1
    for word in [*words, ""]:
        if word in _WORDS:
            group = (group or 0) + _WORDS[word]
        elif word in _MULTIPLIERS and group is not None:
            factor = _MULTIPLIERS[word]
            if factor == 100:
                group *= factor
            else:
                total, group = (total or 0) + group * factor, 0
        elif word == "and" and group is not None:
            continue
        else:
            if group is not None:
                found.append(Numeral(Fraction(sign * ((total or 0) + group))))
            total = group = None
            sign = -1 if word == "minus" else 1
    return found
