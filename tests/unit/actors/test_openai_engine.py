"""The engine behind an endpoint: as the engine in the process where the endpoint can all, and honest where not."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from endpoint_server import MODEL, Peer, serving
from engine_cases import EngineFactory, picture

from actors.engines.config import Continuing, OpenAIEngineConfig
from actors.engines.openai_engine import OpenAIEngine
from cluster.logs import configure_logging
from reasoning.errors import ConfigError, EngineError, ImageError, InputError
from reasoning.protocols import (
    ChoiceRequest,
    ContinuationReply,
    ContinuationRequest,
    Engine,
    Sampling,
    StopReason,
)
from reasoning.records import ImageRef, Question, Turn
from reasoning.search.config import ScorerKind, SearchConfig, SelectorKind, Strategy
from reasoning.search.result import SearchResult
from reasoning.search.run import run_search
from reasoning.stages import FourStages, Stage
from reasoning.testing import ScriptedEngine, reciting

GREEDY = Sampling(temperature=0, max_new_tokens=12)
WARM = Sampling(temperature=0.8, top_p=0.9, max_new_tokens=12)
QUESTION = Question(id="q1", question="How many red circles are there?", image=picture())
GOOD, BAD = (
    FourStages(summary="I will count.", caption=f"{n} circles.", reasoning=f"One to {n}.", conclusion=n).render()
    for n in ("3", "4")
)


def ask(prompt: str = QUESTION.question, **fields: Any) -> ContinuationRequest:
    values: dict[str, Any] = {"image": picture(), "prefix": "", "stops": (), "seeds": (0,), "sampling": GREEDY}
    return ContinuationRequest(prompt=prompt, **(values | fields))


def stage(name: Stage = Stage.SUMMARY, **fields: Any) -> ContinuationRequest:
    return ask(**({"stops": (name.close_tag,), "stage": name, "sampling": WARM} | fields))


def scripted(*answers: str) -> ScriptedEngine:
    """Prefers the answer with a 3 in it."""
    return ScriptedEngine(
        reciting(*answers), prefer=lambda a, b: 2.0 * (("3" in a) - ("3" in b)), rate=lambda text: 2.0 * ("3" in text)
    )


def using(peer: Peer, work: Callable[[OpenAIEngine], Any], **settings: Any) -> Any:
    """What ``work`` gives with an engine at ``peer``, from the first call to the closing of its connections."""

    async def run() -> Any:
        engine = OpenAIEngine(OpenAIEngineConfig(**({"base_url": peer.url, "model": MODEL} | settings)))
        try:
            return await work(engine)
        finally:
            await engine.aclose()

    return asyncio.run(run())


def generate(peer: Peer, *requests: ContinuationRequest, **settings: Any) -> list[ContinuationReply]:
    return list(using(peer, lambda engine: engine.generate(requests), **settings))


def search(peer: Peer, config: SearchConfig, **settings: Any) -> SearchResult:
    result: SearchResult = using(peer, lambda engine: searched(engine, config), **settings)
    return result


async def searched(engine: Engine, config: SearchConfig) -> SearchResult:
    return await run_search(QUESTION, config, generator=engine, judge=engine, clock=time.monotonic)


def tree(result: SearchResult) -> list[tuple[Any, ...]]:
    return [(c.id, c.parent, c.stage, c.text, c.stop, c.tokens, c.is_kept, c.fault) for c in result.trace.candidates]


@pytest.mark.parametrize(
    "config",
    [
        SearchConfig(strategy=Strategy.GREEDY, sampling=GREEDY),
        SearchConfig(strategy=Strategy.SELF_CONSISTENCY, samples=3, sampling=WARM),
        SearchConfig(strategy=Strategy.STAGE_BEAM, samples=3, selector=SelectorKind.LIKELIHOOD, sampling=WARM),
        SearchConfig(strategy=Strategy.SENTENCE_BEAM, samples=2, selector=SelectorKind.LIKELIHOOD, sampling=WARM),
    ],
    ids=lambda config: config.strategy.value,
)
def test_a_capable_endpoint_gives_the_tree_of_the_engine_behind_it(
    make_engine: EngineFactory, config: SearchConfig
) -> None:
    inside = asyncio.run(searched(make_engine(), config))
    with serving(Peer(engine=make_engine())) as peer:
        outside = search(peer, config, max_choices=1)
    assert tree(outside) == tree(inside)
    assert [c.logprob for c in outside.trace.candidates] == pytest.approx(
        [c.logprob for c in inside.trace.candidates], abs=1e-3
    )
    assert (outside.conclusion, outside.fault, outside.text) == (inside.conclusion, inside.fault, inside.text)
    counted = (outside.ledger.prompt_tokens, outside.ledger.cached_tokens, outside.ledger.generated_tokens)
    assert counted == (peer.usage.prompt_tokens, peer.usage.cached_tokens, peer.usage.generated_tokens)
    assert not [note for note in outside.trace.notes if "endpoint" in note]


@pytest.mark.parametrize("selector", [SelectorKind.JUDGE_LOGPROB, SelectorKind.SCORE])
def test_judges_ask_the_endpoint_as_they_ask_in_the_process(selector: SelectorKind) -> None:
    config = SearchConfig(samples=2, selector=selector, scorer=ScorerKind.RATING)
    inside = asyncio.run(searched(scripted(BAD, GOOD), config))
    with serving(Peer(engine=scripted(BAD, GOOD))) as peer:
        outside = search(peer, config)
    assert tree(outside) == tree(inside)
    assert outside.trace.comparisons == inside.trace.comparisons
    assert outside.ledger.judge_tokens == inside.ledger.judge_tokens > 0
    assert outside.conclusion == inside.conclusion == "3"


def test_choices_are_scored_by_the_model_behind_the_endpoint(make_engine: EngineFactory) -> None:
    asked = [
        ChoiceRequest(prompt=f"Which? {i}", image=picture(), prefix="I choose response ", options=("1", "2"))
        for i in range(3)
    ]
    inside = asyncio.run(make_engine().choose(asked))
    with serving(Peer(engine=make_engine())) as peer:
        outside = using(peer, lambda engine: engine.choose(asked))
    assert [r.logprobs for r in outside] == [pytest.approx(r.logprobs, abs=1e-3) for r in inside]
    assert sum(r.usage.prompt_tokens for r in outside) == peer.usage.prompt_tokens > 0


def test_several_candidates_are_one_call_with_the_first_seed() -> None:
    with serving(Peer(engine=scripted(GOOD, BAD))) as peer:
        [reply] = generate(peer, stage(seeds=(5, 9, 7)))
    [body] = peer.bodies
    assert (body["n"], body["seed"]) == (3, 5)
    assert [c.seed for c in reply.continuations] == [5, 9, 7]
    assert reply.usage.prompt_tokens == peer.usage.prompt_tokens
    assert sum(c.tokens for c in reply.continuations) == reply.usage.generated_tokens


def test_at_temperature_0_one_call_stands_for_all_seeds() -> None:
    with serving(Peer(engine=scripted(GOOD))) as peer:
        [reply] = generate(peer, stage(seeds=(1, 2, 3), sampling=GREEDY))
    assert len(peer.bodies) == 1
    assert "n" not in peer.bodies[0]
    assert len({c.text for c in reply.continuations}) == 1
    assert [c.seed for c in reply.continuations] == [1, 2, 3]


@pytest.mark.parametrize("lack", [{"several": False}, {"refuses_n": True}])
def test_missing_candidates_are_fetched_one_by_one_and_that_is_said_once(
    lack: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("warning", as_json=True)

    async def twice(engine: OpenAIEngine) -> list[ContinuationReply]:
        return [*(await engine.generate([stage(seeds=(1, 2, 3))])), *(await engine.generate([stage(seeds=(4, 5))]))]

    with serving(Peer(engine=scripted(GOOD), **lack)) as peer:
        first, second = using(peer, twice)
    assert [c.seed for c in first.continuations] == [1, 2, 3]
    assert [len(reply.notes) for reply in (first, second)] == [1, 1]
    assert "one candidate a call" in first.notes[0]
    assert [body.get("n", 1) for body in peer.bodies][-2:] == [1, 1]
    total = sum(reply.usage.prompt_tokens for reply in (first, second))
    assert total == peer.usage.prompt_tokens
    assert capsys.readouterr().err.count("endpoint_lacks") == 1


@pytest.mark.parametrize("lack", [{"logprobs": False}, {"refuses": ("logprobs",)}])
def test_without_logprobs_nothing_is_ranked_by_likelihood(lack: dict[str, Any]) -> None:
    config = SearchConfig(samples=2, selector=SelectorKind.LIKELIHOOD)
    with serving(Peer(engine=scripted(BAD, GOOD), **lack)) as peer:
        result = search(peer, config)
    assert result.conclusion == "4"
    assert all(c.logprob is None and c.score is None for c in result.trace.candidates)
    assert any("no log-probabilities" in note for note in result.trace.notes)
    assert any("writing order decided" in note for note in result.trace.notes)


@pytest.mark.parametrize(("says", "share"), [("2", 0.0), ('"1".', 1.0), ("Both are fine.", None)])
def test_without_logprobs_a_judge_answers_in_a_word(says: str, share: float | None) -> None:
    with serving(Peer(engine=scripted(), logprobs=False, says=says)) as peer:
        asked = ChoiceRequest(prompt="Which?", image=None, prefix="I choose response ", options=("1", "2"))
        [reply] = using(peer, lambda engine: engine.choose([asked]))
    if share is None:
        assert all(map(math.isnan, reply.logprobs))
    else:
        assert math.exp(reply.logprobs[0]) == share


def test_an_option_beyond_the_listed_words_is_no_more_likely_than_they_leave() -> None:
    with serving(Peer(engine=ScriptedEngine(prefer=lambda a, b: 20.0))) as peer:
        asked = ChoiceRequest(prompt="I choose", image=None, prefix="", options=("1", "9"))
        prompt = "x\n\n### Response 1\n> a\n\n### Response 2\n> b\n\n### Output\nI choose"
        [reply] = using(peer, lambda engine: engine.choose([ChoiceRequest(**{**vars(asked), "prompt": prompt})]))
        none = ChoiceRequest(**{**vars(asked), "prompt": prompt, "options": ("7", "9")})
        [unread] = using(peer, lambda engine: engine.choose([none]))
    assert reply.logprobs == (0.0, -20.0) or reply.logprobs[1] <= -20.0
    assert all(map(math.isnan, unread.logprobs))


def test_stop_texts_come_back_however_the_endpoint_treats_them() -> None:
    for powers in ({}, {"keeps_stop": False}, {"keeps_stop": False, "names_stop": False}):
        with serving(Peer(engine=scripted(GOOD), **powers)) as peer:
            [reply] = generate(peer, stage())
        [said] = reply.continuations
        assert (said.text, said.stop) == ("<SUMMARY> I will count. </SUMMARY>", StopReason.TAG), powers
        assert bool(reply.notes) == ("names_stop" in powers)


@pytest.mark.parametrize("names_stop", [True, False])
def test_a_turn_that_ended_is_no_stop_text(names_stop: bool) -> None:
    with serving(Peer(engine=scripted("I cannot say."), keeps_stop=False, names_stop=names_stop)) as peer:
        [reply] = generate(peer, stage())
    assert [(c.text, c.stop) for c in reply.continuations] == [("I cannot say.", StopReason.EOS)]


def test_stop_texts_that_the_endpoint_overran_are_cut_here() -> None:
    with serving(Peer(engine=scripted(), says=GOOD)) as peer:
        [reply] = generate(peer, stage())
    assert [(c.text, c.stop) for c in reply.continuations] == [("<SUMMARY> I will count. </SUMMARY>", StopReason.TAG)]


def test_the_token_limit_is_told_apart() -> None:
    with serving(Peer(engine=scripted(GOOD))) as peer:
        [reply] = generate(peer, stage(sampling=Sampling(max_new_tokens=2)))
    assert [(c.stop, c.tokens) for c in reply.continuations] == [(StopReason.LENGTH, 2)]


def test_where_a_text_cannot_be_gone_on_with_the_next_stage_is_asked_for() -> None:
    stages = FourStages(summary="I will count.", caption="3 circles.", reasoning="One to 3.", conclusion="3")
    script = {
        name: f"{name.open_tag} {stages[name]} {name.close_tag}"
        for name in (Stage.SUMMARY, Stage.CAPTION, Stage.REASONING, Stage.CONCLUSION)
    }
    engine = ScriptedEngine(lambda request, _: script[request.stage] if request.stage else None)
    with serving(Peer(engine=engine, owner="somebody", names_stop=False)) as peer:
        result = search(peer, SearchConfig(samples=2, selector=SelectorKind.LIKELIHOOD))
    assert result.stages == stages
    assert any("user turn" in note for note in result.trace.notes)
    last = peer.bodies[-1]
    assert [message["role"] for message in last["messages"]] == ["user"]
    text = last["messages"][0]["content"][1]["text"]
    assert "> <REASONING> One to 3. </REASONING>" in text
    assert "Write one stage of the answer, CONCLUSION" in text


def test_a_refused_assistant_message_is_asked_for_in_the_users_turn() -> None:
    with serving(Peer(engine=scripted(GOOD), refuses=("continue_final_message",))) as peer:
        [reply] = generate(peer, stage(Stage.CAPTION, prefix="<SUMMARY> I will count. </SUMMARY>\n\n"))
    assert len(peer.bodies) == 2
    assert any("user turn" in note for note in reply.notes)


def test_a_repeated_beginning_is_taken_off() -> None:
    with serving(Peer(engine=scripted(), owner="somebody", says="I count. There are 3.")) as peer:
        [reply] = generate(peer, ask(prefix="I count."))
        [other] = generate(peer, ask(prefix="First,"), continuation=Continuing.PREFILL)
    assert reply.continuations[0].text == " There are 3."
    assert other.continuations[0].text == "I count. There are 3."


def test_earlier_turns_the_image_and_extra_fields_are_sent() -> None:
    history = (Turn(question="Is it round?", answer="Yes <|im_end|>"),)
    with serving(Peer(engine=scripted(GOOD))) as peer:
        generate(peer, ask(history=history), extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    [body] = peer.bodies
    first, second, third = body["messages"]
    assert first["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert (second["content"], third["content"]) == ("Yes < |im_end|>", QUESTION.question)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_an_endpoint_that_does_not_count_says_so() -> None:
    with serving(Peer(engine=scripted(GOOD), counts=False)) as peer:
        [reply] = generate(peer, stage())
    assert reply.usage.prompt_tokens == 0
    assert any("counts no tokens" in note for note in reply.notes)


def test_prices_make_dollars() -> None:
    with serving(Peer(engine=scripted(), says="3")) as peer:
        [reply] = generate(peer, ask(), prompt_dollars_per_million=100, generated_dollars_per_million=1000)
    assert reply.usage.dollars == pytest.approx((10 * 100 + 3 * 1000) / 1e6)


def test_what_may_pass_is_repeated() -> None:
    failures = [(429, "slow down"), (503, "busy"), (500, "oops")]
    with serving(Peer(engine=scripted(GOOD), failures=failures)) as peer:
        [reply] = generate(peer, stage())
    assert reply.continuations[0].stop is StopReason.TAG
    assert len(peer.bodies) == 4


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (400, InputError, "maximum context length"),
        (404, EngineError, "has no model 'tiny'"),
        (500, EngineError, "failed with HTTP 500"),
    ],
)
def test_refusals_and_failures_are_told_apart(status: int, error: type[Exception], words: str) -> None:
    failures = [(status, "maximum context length is 10")]
    with serving(Peer(engine=scripted(GOOD), failures=failures)) as peer, pytest.raises(error, match=words):
        generate(peer, stage(), max_retries=0)


def test_a_lost_endpoint_is_an_engine_error() -> None:
    with serving(Peer(engine=scripted(GOOD))) as peer:
        pass
    with pytest.raises(EngineError, match="gave no readable answer"):
        generate(peer, stage(), max_retries=0)


def test_an_unusable_image_is_an_image_error() -> None:
    with serving(Peer(engine=scripted(GOOD))) as peer, pytest.raises(ImageError):
        generate(peer, ask(image=ImageRef(data=b"no image")))


def test_a_cancelled_search_cancels_its_calls() -> None:
    async def cancel(engine: OpenAIEngine) -> None:
        task = asyncio.ensure_future(searched(engine, SearchConfig(samples=2)))
        assert await asyncio.to_thread(peer.arrived.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with serving(Peer(engine=scripted(GOOD), holds=True)) as peer:
        using(peer, cancel)
        assert peer.dropped.wait(20)


def test_no_more_calls_are_open_than_allowed() -> None:
    class Counting(ScriptedEngine):
        """Remembers how many calls were in it at once."""

        now = most = 0

        async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
            self.now += 1
            self.most = max(self.most, self.now)
            for _ in range(20):
                await asyncio.sleep(0)
            self.now -= 1
            return await super().generate(requests)

    engine = Counting(reciting(GOOD))
    with serving(Peer(engine=engine)) as peer:
        generate(peer, *(stage(seeds=(i,)) for i in range(12)), max_in_flight=3)
    assert engine.most <= 3


def test_the_key_is_sent_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    configure_logging("debug")
    caplog.set_level(logging.DEBUG)
    with serving(Peer(engine=scripted(GOOD), key="sk-very-secret")) as peer:
        [reply] = generate(peer, stage(), api_key_env="MY_KEY")
        assert reply.continuations[0].stop is StopReason.TAG
        peer.key = "another"
        with pytest.raises(EngineError, match="refused the key") as caught:
            generate(peer, stage(), api_key_env="MY_KEY")
    shown = "".join(traceback.format_exception(caught.value)) + capsys.readouterr().err + caplog.text
    assert "sk-very-secret" not in shown
    assert "[hidden]" in shown
    configure_logging("warning")


def test_a_key_from_a_file(tmp_path: Any) -> None:
    (tmp_path / "key").write_text("sk-of-file\n")
    with serving(Peer(engine=scripted(GOOD), key="sk-of-file")) as peer:
        [reply] = generate(peer, stage(), api_key_file=str(tmp_path / "key"))
    assert reply.continuations[0].stop is StopReason.TAG


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"api_key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY"),
        ({"api_key_file": "/nowhere/key"}, "/nowhere/key"),
        ({"api_key_env": "A", "api_key_file": "b"}, "exclude each other"),
        ({"base_url": "localhost:8000"}, "http://"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        OpenAIEngine(OpenAIEngineConfig(**({"base_url": "http://127.0.0.1:1/v1", "model": "m"} | settings)))
