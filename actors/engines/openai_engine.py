"""The engine behind an OpenAI-compatible address: vLLM, SGLang and llama.cpp servers, hosted models.

``OpenAIEngine`` satisfies ``reasoning.protocols.Engine``. It asks, repeats what may pass, and makes
up for what the endpoint cannot do; ``openai_abilities`` knows what that is, and every reply tells.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from actors.endpoint import open_client
from actors.engines.config import Continuing, OpenAIEngineConfig
from actors.engines.openai_abilities import Abilities
from actors.engines.openai_calls import choice_body, continuation_body
from actors.engines.openai_replies import (
    choices_of,
    has_logprobs,
    option_in_words,
    option_logprobs,
    read_choice,
    token_counts,
    usage_of,
)
from actors.engines.together import together
from actors.images import load_image
from cluster.secrets import read_secret, read_secret_file, redact
from reasoning.errors import EngineError, InputError
from reasoning.ledger import Usage
from reasoning.protocols import ChoiceReply, ChoiceRequest, Continuation, ContinuationReply, ContinuationRequest
from reasoning.records import ImageRef

_WAYS = {"vllm": Continuing.CONTINUE, "sglang": Continuing.CONTINUE, "llamacpp": Continuing.PREFILL}
"""What servers call themselves in ``owned_by`` of their list of models, and how they are gone on with."""
_KEPT_IMAGES = 64
_REFUSED = (400, 413, 422)
_SHORT = 300


class OpenAIEngine:
    """Generates and chooses by calls to one endpoint. Use it on one event loop; ``aclose`` it when done.

    Reproducible as far as the endpoint is. A call for several candidates carries the first one's
    seed: which text is which candidate depends on the whole set of seeds, which a search repeats.
    At temperature 0 one call is made and stands for all seeds. Image encodes are not counted, since
    no endpoint tells them.
    """

    def __init__(self, config: OpenAIEngineConfig) -> None:
        """Asks nobody yet; raises ConfigError when the key is not where the configuration says."""
        self.config = config
        self._api_key = read_secret(config.api_key_env, wanted_by="openai.api_key_env") or read_secret_file(
            config.api_key_file, wanted_by="openai.api_key_file"
        )
        self._client = open_client(
            config.base_url,
            self._api_key,
            timeout_s=config.timeout_s,
            max_retries=config.max_retries,
            max_in_flight=config.max_in_flight,
        )
        self._abilities = Abilities(config)
        self._slots = asyncio.Semaphore(config.max_in_flight)
        self._introduction = asyncio.Lock()
        self._images: OrderedDict[str, str] = OrderedDict()
        self._is_closed = False

    async def generate(self, requests: Sequence[ContinuationRequest]) -> list[ContinuationReply]:
        """Replies in the order of the requests.

        Raises ImageError when an image cannot be used, InputError when the endpoint refuses a request,
        EngineError when it cannot be reached, refuses the key or fails at every try. Cancelling cancels
        the calls.
        """
        await self._introduce()
        return await together([self._continue(request) for request in requests])

    async def choose(self, requests: Sequence[ChoiceRequest]) -> list[ChoiceReply]:
        """Replies in the order of the requests; raises as ``generate`` does.

        The options' log-probabilities at the first word of a reply. Where there are none the reply
        itself decides: 0 for the option it names, minus infinity for the others, nan when it names none.
        """
        await self._introduce()
        return await together([self._choose(request) for request in requests])

    async def aclose(self) -> None:
        """Close the connections; nothing can be asked afterwards."""
        self._is_closed = True
        await self._client.close()

    async def _continue(self, request: ContinuationRequest) -> ContinuationReply:
        if not request.seeds:
            raise InputError("ContinuationRequest.seeds is empty; give one seed for each continuation")
        image_url = await self._image_url(request.image)
        is_greedy = request.sampling.temperature == 0
        open_places = [0] if is_greedy else list(range(len(request.seeds)))
        said: dict[int, Continuation] = {}
        usage = Usage()
        while open_places:
            size = self._abilities.choices
            groups = [open_places[i : i + size] for i in range(0, len(open_places), size)]
            calls = [self._draw(request, [request.seeds[place] for place in group], image_url) for group in groups]
            open_places = []
            for group, (continuations, cost) in zip(groups, await together(calls), strict=True):
                usage += cost
                said |= dict(zip(group, continuations, strict=False))
                open_places += group[len(continuations) :]
            if open_places:
                self._abilities.lack("choices")
        if is_greedy:
            said = dict.fromkeys(range(len(request.seeds)), said[0])
        ordered = tuple(replace(said[place], seed=seed) for place, seed in enumerate(request.seeds))
        return ContinuationReply(continuations=ordered, usage=usage, notes=self._abilities.notes)

    async def _draw(
        self, request: ContinuationRequest, seeds: Sequence[int], image_url: str | None
    ) -> tuple[list[Continuation], Usage]:
        """What one call gives for ``seeds``: perhaps fewer candidates than were asked for, never none."""
        abilities = self._abilities
        completion = await self._ask(lambda: continuation_body(request, seeds, image_url, self.config, abilities))
        choices = choices_of(completion)[: len(seeds)]
        if not choices:
            raise EngineError(f"{self._name} sent a reply without choices: {_short(str(completion))}")
        if abilities.logprobs and not all(map(has_logprobs, choices)):
            abilities.lack("logprobs")
        usage = self._counted(completion)
        said = []
        for choice, seed, tokens in zip(choices, seeds, token_counts(choices, usage.generated_tokens), strict=False):
            reading = read_choice(
                choice, request, seed, tokens, way=abilities.continuation, names_stops=abilities.names_stops
            )
            abilities.names_stops |= reading.names_stop
            if reading.is_guess:
                abilities.lack("stop")
            said.append(reading.continuation)
        return said, usage

    async def _choose(self, request: ChoiceRequest) -> ChoiceReply:
        if not request.options:
            raise InputError("ChoiceRequest.options is empty; give the words to choose from")
        image_url = await self._image_url(request.image)
        abilities = self._abilities
        completion = await self._ask(lambda: choice_body(request, image_url, self.config, abilities))
        choices = choices_of(completion)
        if not choices:
            raise EngineError(f"{self._name} sent a reply without choices: {_short(str(completion))}")
        if abilities.logprobs and not has_logprobs(choices[0]):
            abilities.lack("logprobs")
        if abilities.logprobs:
            found = option_logprobs(choices[0], request.options)
            if found is None:
                abilities.lack("options")
                found = (float("nan"),) * len(request.options)
        else:
            found = option_in_words(choices[0], request.options)
        return ChoiceReply(logprobs=found, usage=self._counted(completion))

    async def _ask(self, build: Callable[[], dict[str, Any]]) -> Any:
        """The reply to a call; what the endpoint refuses by name is left out and the call made again."""
        import openai

        while True:
            if self._is_closed:
                raise EngineError("the engine was closed")
            body = build()
            try:
                async with self._slots:
                    return await self._client.chat.completions.create(**body)
            except openai.APIStatusError as error:
                said = redact(str(error.message), [self._api_key])
                if error.status_code in _REFUSED and self._abilities.learn(said, body):
                    continue
                # Not from the library's error, which may quote the key.
                raise self._refusal(error.status_code, said) from None
            except (openai.APIError, ValueError) as error:
                raise self._loss(error) from None

    async def _introduce(self) -> None:
        """Find out, once, how the endpoint goes on with a text."""
        import openai

        async with self._introduction:
            if self._abilities.continuation is not None:
                return
            try:
                listed = (await self._client.models.list()).data or []
            except openai.APIStatusError as error:
                if error.status_code in (401, 403):
                    said = redact(str(error.message), [self._api_key])
                    raise self._refusal(error.status_code, said) from None
                listed = []
            except openai.APIConnectionError as error:
                raise self._loss(error) from None
            except (openai.APIError, ValueError):
                listed = []
            named = [one for one in listed if getattr(one, "id", None) == self.config.model] or list(listed)
            owner = str(getattr(named[0], "owned_by", "")) if named else ""
            self._abilities.set_continuation(_WAYS.get(owner, Continuing.INSTRUCT))

    def _counted(self, completion: Any) -> Usage:
        usage = usage_of(completion, self.config)
        if usage is None:
            self._abilities.lack("usage")
        return usage or Usage()

    async def _image_url(self, image: ImageRef | None) -> str | None:
        """The picture as a data URL: its pixels as PNG, nothing else that was in the file."""
        if image is None:
            return None
        if image.key not in self._images:
            self._images[image.key] = await asyncio.to_thread(_as_png_url, image)
            while len(self._images) > _KEPT_IMAGES:
                self._images.popitem(last=False)
        url = self._images[image.key]
        self._images.move_to_end(image.key)
        return url

    @property
    def _name(self) -> str:
        return f"the endpoint at {self.config.base_url}"

    def _refusal(self, status: int, said: str) -> EngineError | InputError:
        said = _short(said)
        match status:
            case 401 | 403:
                return EngineError(f"{self._name} refused the key ({said}); see openai.api_key_env and api_key_file")
            case 404:
                return EngineError(f"{self._name} has no model {self.config.model!r}, or no chat completions: {said}")
            case status if status in _REFUSED:
                return InputError(f"{self._name} refused a request with HTTP {status}: {said}")
            case _:
                tries = self.config.max_retries + 1
                return EngineError(f"{self._name} failed with HTTP {status}, the last of up to {tries} tries: {said}")

    def _loss(self, error: Exception) -> EngineError:
        said = redact(_short(f"{error} {error.__cause__ or ''}"), [self._api_key])
        return EngineError(f"{self._name} gave no readable answer: {said}")


def _as_png_url(image: ImageRef) -> str:
    stream = io.BytesIO()
    load_image(image).save(stream, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _short(text: str) -> str:
    """One line, cut: a body can be a page of HTML, or hold the request with its image."""
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else f"{line[:_SHORT]}…"
