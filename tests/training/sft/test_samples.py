"""What supervised fine-tuning learns from: demonstrations, primers, drills, captions, in their order."""

import json
import re
from itertools import islice, repeat

import numpy as np
import pytest

from tests.training.sft.made_config import with_sft
from vlmagent.config import Config
from vlmagent.errors import UsageError
from vlmagent.models.hf import build_policy
from vlmagent.seeding import derive, sft_episode_seed
from vlmagent.tasks.numberline import NumberLineTask
from vlmagent.tasks.registry import build_task, task_from_config
from vlmagent.text import with_article
from vlmagent.training.sft.loss import response_scores
from vlmagent.training.sft.samples import (
    CAPTION_PROMPT,
    captions,
    corpus,
    mixed,
    renamed,
    solver_samples,
    stages,
    thinned_samples,
)
from vlmagent.training.sft.sft import train_sft
from vlmagent.types import SftSample


def test_solver_samples_repeat_and_are_right():
    task = build_task("numberline")
    one = list(islice(solver_samples(task, 4), 20))
    two = list(islice(solver_samples(task, 4), 20))
    assert [s.response for s in one] == [s.response for s in two]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, two, strict=True))
    assert [s.response for s in one] != [s.response for s in islice(solver_samples(task, 5), 20)]
    assert {s.response.rsplit('"', 2)[1] for s in one} == {"+", "-"}


def test_a_demonstrator_that_errs_argues_for_what_it_does():
    def wrong(share: float) -> int:
        samples = islice(solver_samples(build_task("numberline"), 4, share), 300)
        return sum(("smaller" in s.response) != ('"action": "+"' in s.response) for s in samples)

    assert wrong(0.0) == 0
    assert 75 < wrong(0.7) < 135  # half of the random actions are right
    for sample in islice(solver_samples(build_task("numberline"), 4, 1.0), 50):
        action = sample.response.rsplit('"', 2)[1]
        verb = "increase" if action == "+" else "decrease"
        assert f"I should {verb} the current number by choosing {action}." in sample.response


def test_exactly_as_many_samples_as_configured(small_config: Config):
    config = with_sft(small_config, samples=37, language_samples=10, batch_size=8)
    task = task_from_config(config)
    seen = []
    train_sft(build_policy(config.model, corpus(task), 0), config, task, seen.append)
    assert [p.samples for p in seen] == [8, 10, 18, 26, 34, 42, 47]
    assert [p.step for p in seen] == list(range(1, 8))


def test_the_language_stage_sees_no_picture(small_config: Config, monkeypatch: pytest.MonkeyPatch):
    config = with_sft(small_config, samples=8, language_samples=8, batch_size=8)
    task = task_from_config(config)
    batches: list[list[SftSample]] = []

    def spy(policy, batch):
        batches.append(batch)
        return response_scores(policy, batch)

    monkeypatch.setattr("vlmagent.training.sft.sft.response_scores", spy)
    train_sft(build_policy(config.model, corpus(task), 0), config, task, lambda _: None)
    language, real = batches
    assert all(sample.image is None for sample in language)
    assert all(sample.image is not None for sample in real)


def test_names_are_exchanged_throughout_a_text():
    names = ("apple", "mug", "pot", "spoon")
    prompt = "a mug 1, a apple 2, an apple 3 and mugs: take mug 1, pot 10"
    found, numbers = set(), set()
    for text in islice(
        renamed(repeat(SftSample(None, prompt, "an apple, a mug; mug 1.")), names, 1.0, 0), 300
    ):
        pattern = r"a (\w+) (\d), a (\w+) 2, an \3 3 and mugs: take \1 \2, (\w+) (\d)"
        mug, first, apple, pot, second = re.fullmatch(pattern, text.prompt).groups()  # type: ignore[union-attr]
        assert len({mug, apple, pot}) == 3
        assert text.response == f"{with_article(apple)}, {with_article(mug)}; {mug} {first}."
        found.add((mug, apple, pot))
        numbers.add((first, second))
    assert len(found) == 24
    assert numbers == {
        (first, second) for first in "1234" for second in "1234"
    }  # apples have namesakes: theirs stay


def test_a_share_of_the_texts_is_renamed_the_same_way_under_a_seed():
    samples = [SftSample(None, f"{number} mug", "mug") for number in range(400)]
    one, two, other = (list(renamed(iter(samples), ("mug", "pot"), 0.5, seed)) for seed in (3, 3, 4))
    assert one == two != other
    assert (
        70 < sum(sample.response == "pot" for sample in one) < 130
    )  # half of the drawn exchanges change nothing
    assert list(renamed(iter(samples), ("mug", "pot"), 0.0, 3)) == samples


def test_a_task_without_names_to_exchange_says_so(small_config: Config):
    config = with_sft(small_config, language_samples=8, language_renamed=0.5)
    with pytest.raises(
        UsageError, match=r"'numberline' has no names to exchange\. Use sft\.language_renamed=0\."
    ):
        stages(task_from_config(config), config.sft, 0)


def test_a_task_without_a_primer_says_so(small_config: Config):
    config = with_sft(small_config, primer_samples=8)
    with pytest.raises(UsageError, match=r"'numberline' has no primer\. Use sft\.primer_samples=0\."):
        stages(task_from_config(config), config.sft, 0)


def test_a_primer_comes_first_and_its_texts_differ(small_config: Config, monkeypatch: pytest.MonkeyPatch):
    config = with_sft(small_config, primer_samples=16, language_samples=8, samples=8, batch_size=8)
    met: list[str] = []

    def spy(policy, batch):
        met.extend(sample.prompt for sample in batch)
        return response_scores(policy, batch)

    monkeypatch.setattr("vlmagent.training.sft.sft.response_scores", spy)
    policy = build_policy(config.model, corpus(Drilled()), 0)
    curve = train_sft(policy, config, Drilled(), lambda _: None)
    assert curve[-1].samples == config.sft.all_samples == 32
    assert all(prompt.startswith("Count ") for prompt in met[:16])
    assert len(set(met[:16])) > 8
    assert not any(prompt.startswith("Count ") for prompt in met[16:])


def test_a_task_without_drills_says_so(small_config: Config):
    config = with_sft(small_config, language_samples=8, drill_share=0.5)
    with pytest.raises(UsageError, match=r"'numberline' has no drills\. Use sft\.drill_share=0\."):
        stages(task_from_config(config), config.sft, 0)


def test_each_stage_has_drills_of_its_own(small_config: Config):
    """A run that goes on in the last stage never draws from the one before."""
    config = with_sft(small_config, language_samples=40, samples=40, drill_share=0.5)
    whole, continued = stages(Drilled(), config.sft, 0), stages(Drilled(), config.sft, 0)
    assert len(list(islice(whole[1].stream, 40))) == 40
    first, second = ([s.prompt for s in islice(found[-1].stream, 40)] for found in (whole, continued))
    assert first == second


class Drilled(NumberLineTask):
    """Has a primer, and asks for the sum of both numbers in every other state."""

    def primer(self, rng):
        return f"Count {rng.integers(100)}", "I do"

    def drill(self, state, rng):
        return (
            None if state["current"] % 2 else (f"Sum of {state['target']} and {state['current']}?", "a sum")
        )


def test_drills_are_mixed_into_the_language(small_config: Config):
    config = with_sft(small_config, language_samples=200, drill_share=0.25, distinct_samples=40)
    language = list(islice(stages(Drilled(), config.sft, 0)[1].stream, 200))
    asked = [sample.prompt for sample in language if sample.response == "a sum"]
    assert 30 < len(asked) < 70
    assert len(set(asked)) > 5
    assert all(sample.image is None for sample in language)
    assert [s.prompt for s in islice(stages(Drilled(), config.sft, 0)[1].stream, 200)] == [
        s.prompt for s in language
    ]
    with pytest.raises(UsageError, match="has no drills without chain of thought"):
        stages(Drilled(cot=False), config.sft, 0)


def test_stages_come_in_order_and_captions_are_mixed_in(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
):
    stages = {"language_samples": 8, "caption_samples": 16, "caption_share": 0.5, "samples": 64}
    config = with_sft(small_config, **stages, batch_size=8)
    task = task_from_config(config)
    prompts: list[bool] = []

    def spy(policy, batch):
        prompts.extend(sample.prompt == CAPTION_PROMPT for sample in batch)
        return response_scores(policy, batch)

    monkeypatch.setattr("vlmagent.training.sft.sft.response_scores", spy)
    policy = build_policy(config.model, corpus(task, with_captions=True), 0)
    curve = train_sft(policy, config, task, lambda _: None)
    assert [any(prompts[:8]), all(prompts[8:24])] == [False, True]
    assert 16 < sum(prompts[24:]) < 48
    assert curve[-1].samples == len(prompts) == 88


def test_captions_are_words_of_the_experts_thoughts():
    for name in ("numberline", "ezpoints", "points24", "blackjack"):
        task = build_task(name)
        sample = next(captions(task, 3))
        assert sample.prompt == CAPTION_PROMPT
        env = task.make_sft_env()
        seed = sft_episode_seed(derive(3, "captions", 0), 0)
        rng = np.random.default_rng(derive(derive(3, "captions", 0), "deal", 0))
        image, state = env.reset(seed=seed, options=task.caption_options(rng))
        assert np.array_equal(sample.image, image)
        assert sample.response == task.caption(state)
        said = task.expert_response(state, task.expert_action(state, rng))
        assert sample.response in said


def test_captions_show_any_deal_and_many_at_once():
    task = build_task("ezpoints")
    shown = [sample.response for sample in islice(captions(task, 5), 64)]
    assert len(set(shown[:16])) > 12
    pairs = [json.loads("{" + text + "}")["cards"] for text in shown]
    assert any(x + y != 12 and x * y != 12 for x, y in pairs), "else one card follows from the other"


def test_a_task_without_captions_says_so(monkeypatch: pytest.MonkeyPatch):
    task = build_task("numberline")
    monkeypatch.setattr(type(task), "caption", lambda self, state: None)
    with pytest.raises(UsageError, match=r"'numberline' has no captions.*sft\.caption_share=0"):
        next(captions(task, 0))


def test_a_mixture_repeats_under_its_seed():
    def draw(seed: int) -> list[str]:
        task = build_task("numberline")
        stream = mixed(solver_samples(task, 1), captions(task, 2), 0.25, seed)
        return [sample.prompt for sample in islice(stream, 200)]

    assert draw(5) == draw(5) != draw(6)
    assert 30 < draw(5).count(CAPTION_PROMPT) < 70


@pytest.mark.parametrize(("first", "episodes"), [(0, 12), (1, 60), (2, 40)])
def test_thinning_keeps_a_share_of_the_states_and_the_first_ones_if_wanted(first: int, episodes: int):
    config = Config.model_validate(
        {"task": "points24", "sft": {"keep_states": 0.2, "keep_first": first, "random_actions": 0.1}}
    )
    task = task_from_config(config)
    kept = list(islice(thinned_samples(task, config.sft, 3, config.sft.random_actions), 120))
    opening = sum("current formula: ''" in sample.prompt for sample in kept)
    everything = [
        sample.response for sample in islice(solver_samples(task, 3, config.sft.random_actions), 2000)
    ]
    place = 0
    for sample in kept:  # in the order of the episodes, nothing else among them
        place = everything.index(sample.response, place) + 1
    assert opening == pytest.approx(episodes, rel=0.5)
