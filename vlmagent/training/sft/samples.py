"""The samples that supervised fine-tuning learns from: an expert's states, captions, and their stages in turn.

Knows nothing of models and training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from typing import NamedTuple

import numpy as np

from vlmagent.config import SftConfig
from vlmagent.errors import UsageError
from vlmagent.seeding import derive, sft_episode_seed
from vlmagent.tasks.base import State, Task, offers_of
from vlmagent.text import with_article
from vlmagent.training.sft.pool import SamplePool
from vlmagent.types import ImageArray, Observation, SftSample

CAPTION_PROMPT = "What does the picture show?"
CAPTION_TABLES = 16
"""Environments that captions are taken from in turns, so that a batch shows as many deals."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Part of the fine-tuning: where its samples come from, how many, and the peak learning rate."""

    stream: Iterator[SftSample]
    samples: int
    lr: float


class _Demonstrated(NamedTuple):
    """A state of an expert's episode, the action taken there, and how many actions came before it."""

    observation: Observation
    state: State
    action: str
    place: int


def _expert_states(task: Task, seed: int, random_actions: float = 0.0) -> Iterator[_Demonstrated]:
    """Endless states of the expert's own episodes, each with the action that it takes there.

    Args:
        random_actions: share of the actions that are drawn from the legal ones instead.
    """
    env = task.make_sft_env()
    try:
        for episode in count():
            image, state = env.reset(seed=sft_episode_seed(seed, episode))
            # breaks the expert's ties, and draws the random actions
            rng = np.random.default_rng(derive(seed, "expert", episode))
            for place in count():
                observation = task.observe(image, state)
                action = task.expert_action(state, rng)
                # the expert breaks ties with the same generator: no draw where there is nothing to draw
                if random_actions and rng.random() < random_actions:
                    action = str(rng.choice(observation.legal_actions))
                yield _Demonstrated(observation, state, action, place)
                image, _, terminated, truncated, state = env.step(task.env_action(action, observation))
                if terminated or truncated:
                    break
    finally:
        env.close()  # also when the generator is closed or forgotten: an environment may own a process


def solver_samples(task: Task, seed: int, random_actions: float = 0.0) -> Iterator[SftSample]:
    """Endless samples from the expert's own episodes, one per state it meets; see ``SftConfig.random_actions``."""
    return (_sample(task, met) for met in _expert_states(task, seed, random_actions))


def thinned_samples(
    task: Task, sft: SftConfig, seed: int, random_actions: float = 0.0
) -> Iterator[SftSample]:
    """Those of ``solver_samples`` that ``SftConfig.keep_states`` and ``keep_first`` leave."""
    rng = np.random.default_rng(derive(seed, "thinned"))
    for met in _expert_states(task, seed, random_actions):
        # drawn for every state, also where keep_first decides: which of the others stay does not depend on it
        if rng.random() < sft.keep_states or met.place < sft.keep_first:
            yield _sample(task, met)


def _sample(task: Task, met: _Demonstrated) -> SftSample:
    prompt = task.prompt(met.observation)
    return SftSample(met.observation.image, prompt, task.expert_response(met.state, met.action))


def captions(task: Task, seed: int) -> Iterator[SftSample]:
    """Endless captions of states that ``task.caption_options`` and random actions lead to, many deals by turns.

    Raises:
        UsageError: the task has no captions.
    """
    tables = [_random_states(task, derive(seed, "captions", index)) for index in range(CAPTION_TABLES)]
    for table in cycle(tables):
        image, state = next(table)
        caption = task.caption(state)
        if caption is None:
            raise UsageError(
                f"The task '{task.name}' has no captions. Use sft.caption_samples=0 and sft.caption_share=0."
            )
        yield SftSample(image, CAPTION_PROMPT, caption)


def _random_states(task: Task, seed: int) -> Iterator[tuple[ImageArray, State]]:
    """Endless states of episodes in which every action is random."""
    env = task.make_sft_env()
    try:
        for episode in count():
            rng = np.random.default_rng(derive(seed, "deal", episode))
            image, state = env.reset(seed=sft_episode_seed(seed, episode), options=task.caption_options(rng))
            terminated = truncated = False
            while not (terminated or truncated):
                yield image, state
                observation = task.observe(image, state)
                action = str(rng.choice(observation.legal_actions))
                image, _, terminated, truncated, state = env.step(task.env_action(action, observation))
    finally:
        env.close()


def drills(task: Task, seed: int, random_actions: float = 0.0) -> Iterator[SftSample]:
    """Endless drills of the expert's states, from a task that has some."""
    drill = offers_of(task).drill
    assert drill is not None, "check_offered comes first"
    rng = np.random.default_rng(derive(seed, "drills"))
    for met in _expert_states(task, derive(seed, "drilled"), random_actions):
        # None: nothing in this state is worth a drill
        drawn = drill(met.state, rng)
        if drawn is not None:
            yield SftSample(met.observation.image, *drawn)


def primer(task: Task, seed: int) -> Iterator[SftSample]:
    """The endless short texts of a task that has some."""
    draw = offers_of(task).primer
    assert draw is not None, "check_offered comes first"
    rng = np.random.default_rng(derive(seed, "primer"))
    while True:
        yield SftSample(None, *draw(rng))


def mixed(
    samples: Iterator[SftSample], others: Iterator[SftSample], share: float, seed: int
) -> Iterator[SftSample]:
    """``samples`` with a random ``share`` of ``others`` among them."""
    rng = np.random.default_rng(derive(seed, "mixture"))
    while True:
        yield next(others if rng.random() < share else samples)


def corpus(task: Task, with_captions: bool = False, size: int = 2000) -> list[str]:
    """The task's texts, for the tiny model's tokenizer: the same for every seed of a run.

    Args:
        size: how many samples, and how many captions, they come from.
    """
    samples = list(islice(solver_samples(task, 0), size))
    if with_captions:
        samples += islice(captions(task, 0), size)
    # as the built-in model's chat template writes them (`tiny.CHAT_TEMPLATE`)
    prompts = dict.fromkeys(f"USER: {s.prompt}\nASSISTANT: " for s in samples)
    responses = dict.fromkeys(s.response for s in samples)
    # twice, so that a text that occurs once is merged too (the trainer ignores pairs seen a single time)
    return [*prompts, *responses] * 2


NUMBERS = 4
"""Numbers that a renamed thing may get."""


def renamed(
    samples: Iterator[SftSample], names: Sequence[str], share: float, seed: int
) -> Iterator[SftSample]:
    """The same texts, in a random ``share`` of them with ``names`` exchanged for each other throughout.

    The number of a thing that has no namesake is drawn anew too. Articles follow the new names in responses; prompts
    keep theirs, which games do not always choose well.
    """
    rng = np.random.default_rng(derive(seed, "renamed"))
    # an alternation takes the first that fits: of two names that begin alike the longer one has to come first
    longest_first = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    # an article, a name, a number behind it: "a mug 2", "mug 2" or "mug"
    named = re.compile(rf"\b(an? )?({longest_first})( \d+)?\b")
    for sample in samples:
        if rng.random() < share:
            # a permutation: different names stay different
            drawn = dict(zip(names, rng.permutation(names).tolist(), strict=True))
            numbers = rng.integers(1, NUMBERS, len(names), endpoint=True)
            yield _renamed(sample, named, drawn, dict(zip(names, numbers.tolist(), strict=True)))
        else:
            yield sample


def _renamed(
    sample: SftSample, named: re.Pattern[str], drawn: Mapping[str, str], numbers: Mapping[str, int]
) -> SftSample:
    """One sample with other names, found by ``named`` as (article and space, name, space and number)."""
    texts = (sample.prompt, sample.response)
    # (name, number) of everything that is numbered in prompt or response
    met = {(found[2], found[3]) for text in texts for found in named.finditer(text) if found[3]}
    # two things of a kind keep their numbers, which tell them apart
    alone = [name for name, count in Counter(name for name, _ in met).items() if count == 1]
    new = {name: f" {numbers[name]}" for name in alone}

    def number(found: re.Match[str]) -> str:
        return new.get(found[2], found[3]) if found[3] else ""

    def kept(found: re.Match[str]) -> str:
        return (found[1] or "") + drawn[found[2]] + number(found)

    def ruled(found: re.Match[str]) -> str:
        # "a egg" would teach wrong grammar, which the model then writes
        name = with_article(drawn[found[2]]) if found[1] else drawn[found[2]]
        return name + number(found)

    return replace(sample, prompt=named.sub(kept, sample.prompt), response=named.sub(ruled, sample.response))


def without_pictures(samples: Iterator[SftSample]) -> Iterator[SftSample]:
    """The same texts with nothing to see: all that can be learnt from them is the language, and it costs less."""
    for sample in samples:
        yield replace(sample, image=None)


def check_offered(task: Task, sft: SftConfig) -> None:
    """Whether the task has what the recipe asks of it and not every task offers; captions show only when drawn.

    Raises:
        UsageError: it has no primer, drills or names to exchange; names the option that does without.
    """
    offers = offers_of(task)
    if sft.primer_samples and offers.primer is None:
        raise UsageError(f"The task '{task.name}' has no primer. Use sft.primer_samples=0.")
    # drills ask for thoughts, which a task without them never writes
    if sft.drill_share and (offers.drill is None or not task.cot):
        without = "" if offers.drill is None else " without chain of thought"
        raise UsageError(f"The task '{task.name}' has no drills{without}. Use sft.drill_share=0.")
    if sft.language_renamed and not offers.exchangeable:
        raise UsageError(f"The task '{task.name}' has no names to exchange. Use sft.language_renamed=0.")


def stages(task: Task, sft: SftConfig, seed: int) -> list[Stage]:
    """Primer, language, perception, and the task itself, in this order.

    Raises:
        UsageError: see ``check_offered``.
    """
    check_offered(task, sft)
    # a stream begins when it is first asked for a sample: those that the recipe does not use cost nothing
    words = thinned_samples(task, sft, derive(seed, "language"))
    perception = captions(task, derive(seed, "captions"))
    real = thinned_samples(task, sft, seed, sft.random_actions)
    drilled = drills(task, seed, sft.random_actions)
    # a stream of its own: one that the stages shared would begin elsewhere where a run goes on in the last stage
    language_drills = drills(task, derive(seed, "language drills"), sft.random_actions)
    if sft.distinct_samples:
        # samples of slow environments are made once, and shown by both stages
        pool, drill_pool = SamplePool(real, sft.distinct_samples), SamplePool(drilled, sft.distinct_samples)
        words, real = pool.stream(derive(seed, "language")), pool.stream(seed)
        language_drills, drilled = drill_pool.stream(derive(seed, "language")), drill_pool.stream(seed)
    if sft.drill_share:
        words = mixed(words, language_drills, sft.drill_share, derive(seed, "drilled language"))
        real = mixed(real, drilled, sft.drill_share, derive(seed, "mixed drills"))
    if sft.caption_share:
        real = mixed(real, captions(task, derive(seed, "mixed captions")), sft.caption_share, seed)
    if sft.language_renamed:
        words = renamed(words, offers_of(task).exchangeable, sft.language_renamed, seed)
    return [
        Stage(primer(task, seed), sft.primer_samples, sft.language_lr),
        Stage(without_pictures(words), sft.language_samples, sft.language_lr),
        Stage(perception, sft.caption_samples, sft.caption_lr),
        Stage(real, sft.samples, sft.lr),
    ]
