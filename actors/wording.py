"""What a teacher's words give away: that it declines, or that it was told the answer.

Patterns over English text, found by trial on sentences that teachers write (the tables in
``tests/unit/actors/test_wording.py``). They lean towards letting a sentence pass where it may as
well be about the picture: "the given diagram", "the answer is given in the table".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_SUBJECT = r"\b(?:I|we)\b"
_CANNOT = (
    r"(?:\s+(?:can['’]?t|cannot|can not|could ?n['’]t|could not|won['’]?t|will not|must decline to|have to decline to"
    r"|decline to|refuse to"
    r"|(?:am|are)\s+(?:not able|unable|not allowed|not permitted|not comfortable|not in a position)(?:\s+to|\s+with)?"
    r"|do(?:n['’]t| not) feel comfortable(?:\s+with)?)"
    r"|['’](?:m|re)\s+(?:not able|unable|not allowed|not permitted|not comfortable)(?:\s+to|\s+with)?)"
)
_DEED = (
    r"\s+(?:\w+ly\s+)?(?:be able to\s+)?(?:help|assist|answer|provid|comply|do (?:this|that|so)\b|identify|determin"
    r"|discuss|fulfil|continu|complet|engag|support|process|analy[sz]|access|open|interpret|describ|recogni[sz]e"
    r"|view (?:the|this|any|your|an) (?:image|picture|photo)|see (?:the|this|any|your|an) (?:image|picture|photo)"
    r"|(?:give|offer|make|draw) (?:you )?(?:an?|any|the) (?:answer|conclusion|assessment|judg))"
)
_REFUSAL = re.compile(
    "|".join(
        [
            r"\b(?:I['’]m|I am|we['’]re|we are)\s+(?:\w+\s+)?sorry\b",
            r"^\W*sorry\b\W+(?:but\b|I\b|we\b|this\b|that\b|there\b)",
            r"\bI\s+(?:do\s+)?(?:must\s+)?apologi[sz]e\b",
            r"^\W*(?:my )?apologies\b",
            r"\bas an? (?:AI|artificial intelligence)\b(?=\s*(?:[,.]|$|I\b|language|vision|model|assistant|system))",
            _SUBJECT + _CANNOT + _DEED,
            r"(?:^|[.!?]\s+)unable to "
            r"(?:help|assist|answer|comply|provide|view|process|see|analy[sz]e|identify|determine)",
            r"\b(?:against|violates?|violating)\s+(?:my|our|the|OpenAI['’]s)\s+(?:\w+\s+)?"
            r"(?:polic(?:y|ies)|guidelines|programming)\b",
            r"\bI\s+do(?:n['’]t| not) have (?:the ability|access|the capability|permission|enough information)\b",
            r"\bI(?:['’]d| would) (?:rather|prefer) not\b",
            r"\b(?:this|that|your) request (?:can['’]?t|cannot|can not) be\b",
        ]
    ),
    re.IGNORECASE,
)
_BLIND = re.compile(
    r"\bno (?:image|picture|photo(?:graph)?|attachment) (?:was|is|has been|were) (?:\w+ )?"
    r"(?:provided|attached|uploaded|supplied|included|shared|given)\b"
    r"|\b(?:please|could you|can you) (?:\w+ )?(?:upload|provide|share|attach|send) (?:me )?(?:the|an|your|a) "
    r"(?:\w+ )?(?:image|picture|photo)"
    rf"|{_SUBJECT}(?:{_CANNOT}| do(?:n['’]t| not)) (?:\w+ly )?(?:view|see|access|open|display|receive)"
    r"(?: (?:the|this|any|your|an|actual))?(?: \w+)? (?:images?|pictures?|photos?|attachments?)\b"
    r"|\bas an? (?:AI|artificial intelligence) (?:language |vision )?(?:model|assistant|system)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"“[^”]*”|\"[^\"\n]*\"|‘[^’\n]*’(?!\w)|(?<!\w)'[^'\n]*'(?!\w)")

_TOLD = r"(?:given|provided|supplied|told|shown|handed)"
_ANSWER = r"(?:answer|conclusion)\b(?!\s+(?:choices?|options?|candidates?|box|boxes|sheets?|space|blanks?)\b)"
# "The answer is given by 2x + 1" and "is given in the table" speak of the question.
_NOT_OF_THE_PICTURE = r"(?!\s+(?:by|in|on|at|under|below|above|beside|next|near|as|within|inside|through|from|using)\b)"
_LEAK = re.compile(
    "|".join(
        [
            rf"\b(?:standard|reference|given|provided|supplied|expected|gold(?:en)?|official|known|target|intended"
            rf"|desired|pre-?determined|ideal)\s+(?:and\s+\w+\s+)?(?:correct\s+|right\s+|final\s+|true\s+)?{_ANSWER}",
            r"\b(?:reference|gold(?:en)?|model)\s+solution\b",
            r"\bground[\s-]truth\b",
            r"\bgold(?:en)?\s+label\b",
            r"\banswer\s+key\b",
            rf"\b{_ANSWER}\s+(?:that\s+|which\s+)?(?:(?:was|is|has been|had been)\s+)?(?:already\s+)?"
            rf"(?:given|provided|supplied)\b(?!-){_NOT_OF_THE_PICTURE}",
            r"\b(?:answer|conclusion|solution)\s+(?:(?:that|which)\s+)?(?:(?:was|is|has been)\s+)?(?:given|provided"
            r"|supplied|stated|named)\s+(?:to\s+(?:me|us)\b|(?:in|by|with)\s+(?:the|my|this|your)\s+"
            r"(?:prompt|instructions?|guidance|request|task|user)\b)",
            r"\b(?:correct|right|true)\s+answer\s+(?:\w+\s+)?(?:is|was)\s+(?:already\s+)?(?:given|provided|supplied|stated)"
            r"\s+(?:as|to be)\b",
            rf"\b(?:answer|solution|result)\s+(?:that\s+|which\s+)?(?:I|we)\s+(?:was|were|am|are|have been|had been)\s+"
            rf"{_TOLD}\b",
            r"\b(?:as|like|what)\s+(?:I|we)\s+(?:was|were|have been|had been|am)\s+told\b",
            r"\btold\s+(?:me\s+)?(?:that\s+)?(?:what\s+)?the\s+(?:\w+\s+)?answer\b",
            r"\bas\s+(?:if|though)\s+(?:I|we)\s+(?:had|have|was|were)\s+not\s+(?:been\s+)?told\b",
            r"\bas\s+(?:given|provided|supplied|stated),?\s+the\s+(?:correct\s+|right\s+|final\s+)?answer\b",
            r"\b(?:answer|conclusion)\b[^.!?\n]{0,24},\s*as\s+(?:given|provided|supplied)\b(?!\s+(?:by|in|on)\b)",
            r",\s*as\s+(?:provided|supplied)(?=\s*(?:[.;!]|$))",
            r"\b(?:match(?:es|ing)?|agree(?:s|ing)?\s+with|align(?:s|ing)?\s+with|consistent\s+with|confirm(?:s|ing)?"
            r"|in\s+(?:line|agreement|accordance)\s+with|correspond(?:s|ing)?\s+(?:to|with)|arrive\s+at|support(?:s|ing)?)"
            rf"\s+the\s+correct\s+{_ANSWER}",
            r"\baccording\s+to\s+the\s+(?:correct\s+)?answer\b(?!\s+(?:choices?|options?|box|sheet)\b)",
            r"\b(?:know(?:ing)?|given|since|because)\s+(?:that\s+)?the\s+(?:correct|right)\s+(?:answer|option|choice)\s+"
            r"(?:is|should be|must be|has to be)\b",
            r"\bknowing\s+(?:that\s+)?the\s+answer\s+(?:is|should be|must be|has to be)\b",
            r"\b(?:for|as)\s+(?:my|your|our)\s+guidance\b",
        ]
    ),
    re.IGNORECASE,
)
_HINT = re.compile(
    r"\b(?:the|this|my|your)\s+(?:\w+\s+)?hint\b(?!\s+of\b)"
    r"|\bhint\s+(?:that\s+)?(?:(?:was|is|has been)\s+)?(?:given|provided|supplied)\b"
    r"|\b(?:as|like)\s+hinted\b"
    r"|\b(?:according to|based on|following|given)\s+(?:the|a|this)\s+(?:\w+\s+)?hint\b(?!\s+of\b)",
    re.IGNORECASE,
)


_LEAK_WORDS = (
    "answer", "conclusion", "solution", "truth", "label", "result", "told", "provided", "supplied", "option", "choice",
    "guidance",
)  # fmt: skip
"""Each pattern of ``_LEAK`` holds one of these: most texts have none, and looking is cheaper than matching."""


def is_refusal(text: str) -> bool:
    """Whether ``text`` declines to answer; what it quotes does not count ("The sign says 'Sorry, we are closed'")."""
    plain = _QUOTED.sub(" ", text)
    return _REFUSAL.search(plain) is not None or _BLIND.search(plain) is not None


def sees_no_picture(text: str) -> bool:
    """Whether ``text`` says that its writer has no picture or can look at none."""
    return _BLIND.search(_QUOTED.sub(" ", text)) is not None


def giveaway(text: str, *, asked: Sequence[str] = (), is_hint_hidden: bool = True) -> str | None:
    """The first words of ``text`` that tell of a given answer, or of a hint that its reader does not see.

    Words that stand in ``asked``, what the reader is shown, do not count.
    """
    shown = _one_line(" ".join(asked))
    return next((words for words in _giveaways(text, is_hint_hidden) if _one_line(words) not in shown), None)


def _giveaways(text: str, is_hint_hidden: bool) -> Iterator[str]:
    lowered = text.lower()
    patterns = []
    if any(word in lowered for word in _LEAK_WORDS):
        patterns.append(_LEAK)
    if is_hint_hidden and "hint" in lowered:
        patterns.append(_HINT)
    for pattern in patterns:
        for found in pattern.finditer(text):
            yield found[0].strip(" ,")


def _one_line(text: str) -> str:
    return " ".join(text.casefold().split())
