"""Read what judges and checkers write. Whole words only; what cannot be read is never a vote."""

from __future__ import annotations

import re

from reasoning.trace import Verdict

_CHOICE = re.compile(
    r"\bI\s+choose\s+response\s+\[?([12])\]?+(?!\w|\.\d|\s*/|\s+(?:or|and)\s+(?:response\s+)?\d)", re.IGNORECASE
)
_FIRST_CLAUSE = re.compile(r"[^.:;,!?\n—–]*")
_ANSWER_LINE = re.compile(
    r"[\W_]*(?:(?:my|the)\s+)?(?:final\s+)?answer[\s*_`]*[:：][\s*_`]*(?P<answer>\S.*)", re.IGNORECASE
)
_LONGEST_BARE_ANSWER = 200
_NEGATION = re.compile(r"\b(?:not|never|neither|nor|cannot|\w+n['’]t)\b", re.IGNORECASE)


def verdict_text(choice: int, reason: str | None = None) -> str:
    """A verdict in the form a judge is asked for; ``choice`` is 1 or 2."""
    if choice not in (1, 2):
        raise ValueError(f"choice must be 1 or 2, got {choice}")
    return f"I choose response {choice}." if reason is None else f"Since {reason}, I choose response {choice}."


def parse_verdict(reply: str) -> Verdict:
    """FIRST or SECOND for ``I choose response 1`` or ``2``, else UNREADABLE.

    A verdict at the very end counts, whatever is quoted before it; elsewhere all verdicts in the
    reply must agree.
    """
    found = list(_CHOICE.finditer(reply))
    if not found:
        return Verdict.UNREADABLE
    last = found[-1]
    ends_reply = not any(character.isalnum() for character in reply[last.end() :])
    if ends_reply or len({match.group(1) for match in found}) == 1:
        return Verdict.FIRST if last.group(1) == "1" else Verdict.SECOND
    return Verdict.UNREADABLE


def parse_validity(reply: str) -> bool | None:
    """True for ``valid``, False for ``invalid``, None when undecided: neither, both, or negated."""
    return _one_word_of(reply, "valid", "invalid")


def parse_correctness(reply: str) -> bool | None:
    """True for ``correct``, False for ``incorrect``, None when undecided: neither, both, or negated."""
    return _one_word_of(reply, "correct", "incorrect")


def parse_consistency(reply: str) -> bool | None:
    """True for ``consistent``, False for ``inconsistent``, read from the first clause that says one of them.

    What follows is the reason and may use either word. None when undecided.
    """
    for clause in _FIRST_CLAUSE.findall(reply.strip()):
        found = _one_word_of(clause, "consistent", "inconsistent")
        if found is not None or re.search(r"\b(?:in)?consistent\b", clause, re.IGNORECASE):
            return found
    return None


def parse_answer_line(reply: str) -> str | None:
    """What follows ``Answer:`` on the last line that begins so; a reply of one short line is an answer itself.

    None when there is no such line.
    """
    lines = [line.strip() for line in reply.strip().splitlines() if line.strip()]
    for line in reversed(lines):
        if match := _ANSWER_LINE.fullmatch(line):
            return match["answer"].rstrip("*_` ")
    is_bare = len(lines) == 1 and len(lines[0]) <= _LONGEST_BARE_ANSWER and not lines[0].endswith(":")
    return lines[0] if is_bare else None


def _one_word_of(reply: str, yes: str, no: str) -> bool | None:
    words = set(re.findall(r"\w+", reply.casefold()))
    if _NEGATION.search(reply) or (yes in words) == (no in words):
        return None
    return yes in words
