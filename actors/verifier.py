"""Whether a teacher's reply may be taught: the checks, in order, and the first that fails.

Pure functions; asks nobody. Where the rule of ``reasoning.grading`` cannot tell (an answer in free
words), it says so and the caller may ask the teacher.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reasoning.grading import is_correct
from reasoning.parsing import ParseFault, parse_stage, parse_stages
from reasoning.records import AnswerType, Question, RejectReason
from reasoning.stages import FourStages, Stage

_REFUSAL = re.compile(
    r"\b(?:I['’]m sorry|I am sorry|I apologi[sz]e|as an AI\b"
    r"|(?:I|we)\s+(?:can['’]?t|cannot|can not|am unable to|are unable to|am not able to|won['’]t|will not)\s+"
    r"(?:help|assist|answer|provide|comply|do (?:this|that)|identify|determine|discuss|fulfil|continue|complete)"
    r"|unable to (?:help|assist|answer|comply|provide))",
    re.IGNORECASE,
)
_LEAK = re.compile(
    r"\b(?:(?:standard|reference|given|provided|supplied|expected|gold(?:en)?)\s+(?:answer|solution|conclusion)"
    r"|ground[ -]truth|answer\s+(?:key\b|(?:that\s+)?(?:was|is|has been)\s+(?:given|provided|supplied)(?:\s+to\s+me)?)"
    r"|(?:as|like)\s+I\s+(?:was|have been)\s+told)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """The outcome for one reply. ``reason`` None: it may be taught.

    ``stages`` are what could be read, also of a rejected reply. ``needs_opinion``: the rule says the
    answer is another, but it is in free words and the rule may be wrong.
    """

    stages: FourStages | None
    reason: RejectReason | None
    detail: str = ""
    needs_opinion: bool = False


def check_reply(question: Question, text: str, *, finish_reason: str, refusal: str | None) -> Check:
    """All checks of a reply that should hold four stages."""
    ended = check_ending(text, finish_reason=finish_reason, refusal=refusal)
    if ended is not None:
        return ended
    found = parse_stages(text)
    if isinstance(found, ParseFault):
        return _unparsed(text, found)
    return check_stages(question, found)


def check_stage_reply(text: str, stage: Stage, *, finish_reason: str, refusal: str | None) -> str | Check:
    """The text of the one stage that a reply should hold, or what is wrong with it."""
    ended = check_ending(text, finish_reason=finish_reason, refusal=refusal)
    if ended is not None:
        return ended
    found = parse_stage(text, stage)
    return _unparsed(text, found) if isinstance(found, ParseFault) else found


def check_ending(text: str, *, finish_reason: str, refusal: str | None) -> Check | None:
    """What the server says of the reply's end; None when it ended well and has words."""
    if finish_reason == "length":
        return _reject(RejectReason.LENGTH, "the reply reached the token limit and is cut off")
    if finish_reason == "content_filter":
        return _reject(RejectReason.CONTENT_FILTER, "the server's content filter ended the reply")
    if refusal:
        return _reject(RejectReason.REFUSAL, f"the teacher declined: {_excerpt(refusal)}")
    if not text.strip():
        return _reject(RejectReason.EMPTY_REPLY, f"the reply is empty (finish reason {finish_reason!r})")
    return None


def check_stages(question: Question, stages: FourStages) -> Check:
    """The checks of what the four stages say: refusal, the answer, leaks."""
    if is_refusal(stages.conclusion) and not (question.answer and is_refusal(question.answer)):
        return Check(
            stages=stages, reason=RejectReason.REFUSAL, detail=f"the conclusion declines: {_excerpt(stages.conclusion)}"
        )
    if question.answer is None or not question.answer.strip():
        detail = "the question has no standard answer to check the conclusion against"
        return Check(stages=stages, reason=RejectReason.UNDECIDED, detail=detail)
    if not is_correct(question, stages.conclusion):
        said, wanted = _excerpt(stages.conclusion), _excerpt(question.answer)
        return Check(
            stages=stages,
            reason=RejectReason.WRONG_ANSWER,
            detail=f"the conclusion {said} is not the standard answer {wanted}",
            needs_opinion=question.answer_type is AnswerType.FREE,
        )
    return check_leak(question, stages)


def check_leak(question: Question, stages: FourStages) -> Check:
    """Whether a stage speaks of the answer the teacher was given; words of the question itself do not count."""
    asked = " ".join([question.question, *question.choices, question.hint or ""]).casefold()
    for stage, text in stages.as_mapping().items():
        for found in _LEAK.finditer(text):
            if found[0].casefold() not in asked:
                detail = f"{stage} speaks of the answer that was given: {found[0]!r}"
                return Check(stages=stages, reason=RejectReason.LEAK, detail=detail)
    return Check(stages=stages, reason=None)


def is_refusal(text: str) -> bool:
    """Whether ``text`` declines to answer."""
    return _REFUSAL.search(text) is not None


def _unparsed(text: str, fault: ParseFault) -> Check:
    if is_refusal(text):
        return _reject(RejectReason.REFUSAL, f"the teacher declined: {_excerpt(text)}")
    return _reject(RejectReason.BAD_FORMAT, f"{fault.code}: {fault.message}")


def _reject(reason: RejectReason, detail: str) -> Check:
    return Check(stages=None, reason=reason, detail=detail)


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 80 else f"{line[:80]}…")
