"""An episode as a file for other people: an animated GIF, or an HTML page that needs nothing else.

Usable without the dashboard: functions take rows and pictures. Deliberately knows no widget. All text of a
model is escaped, and the page may load nothing and run no script but its own.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlmagent import paths
from vlmagent.errors import StoreError, VlmAgentError
from vlmagent.files import whole_file
from vlmagent.paths import Run
from vlmagent.store import codec
from vlmagent.store.reader import StoreReader
from vlmagent.store.rows import EpisodeRow, TransitionRow
from vlmagent.text import harmless, number
from vlmagent.tui.data.pieces import PieceReader, Pieces
from vlmagent.tui.data.step_text import cut_off
from vlmagent.tui.data.story_page import SCRIPT, STYLE
from vlmagent.tui.data.token_layout import SHARES, level, probability
from vlmagent.types import ImageArray

EXPORTS = "exports"
SECONDS_PER_STEP = 1.5
PICTURE, MARGIN, TEXT = 420, 14, 16  # pixels
THOUGHT_LINES = 7
MOST_WORDS = 600


@dataclass(frozen=True, slots=True)
class Story:
    """An episode with all that is told of it.

    Attributes:
        title: where it comes from, such as the run's name.
        steps: in order.
        images: pictures by key; a missing one is said to be missing.
        pieces: outputs cut into tokens, by id of the step, where the tokenizer is known.
        about: more facts about the episode's run, by name.
    """

    title: str
    episode: EpisodeRow
    steps: Sequence[TransitionRow]
    images: Mapping[str, ImageArray]
    pieces: Mapping[int, Pieces] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)


def read_story(
    reader: StoreReader,
    episode_id: int,
    title: str,
    splitter: PieceReader | None = None,
    *,
    images: bool = True,
) -> Story:
    """Read an episode; a damaged or missing picture is left out.

    Args:
        title: where it comes from.
        splitter: cuts outputs into tokens.
        images: read the pictures too.

    Raises:
        StoreError: there is no such episode, or it has no step yet.
    """
    episode, steps = reader.episode(episode_id), reader.transitions(episode_id)
    if episode is None or not steps:
        raise StoreError(f"Episode {episode_id} has no step in {reader.path}.")
    pictures = {}
    for key in {row.image_sha256 for row in steps} if images else ():
        with contextlib.suppress(StoreError):
            pictures[key] = reader.image(key)
    pieces = {}
    for row in steps if splitter else ():
        found = splitter.split(row.output, row.token_ids) if splitter and row.token_ids is not None else None
        if found is not None:
            pieces[row.id] = found
    info = reader.run()
    about = {"task": info.task, "model": info.model} if info else {}
    return Story(title, episode, steps, pictures, pieces, about)


def export_path(run: Run, database: Path, episode_id: int, kind: str) -> Path:
    """``<run>/exports/episode-N.<kind>``; episodes of an evaluation carry its name too."""
    stem = "" if database.name == paths.DATABASE else f"{database.stem}-"
    return run.path / EXPORTS / f"{stem}episode-{episode_id}.{kind}"


def headline(episode: EpisodeRow) -> str:
    """How an episode ended, in a few words."""
    if episode.ended == "running":
        return "unfinished"
    outcome, cut = "success" if episode.success else "failure", cut_off(episode.ended)
    return f"{outcome}{f' ({cut})' if cut else ''}, return {_number(episode.episode_return)}"


# GIF


def write_gif(story: Story, path: Path, seconds: float = SECONDS_PER_STEP) -> Path:
    """One frame a step: the picture, beside it what was thought and done. Returns ``path``.

    Args:
        seconds: how long each frame stays; the last one twice as long.

    Raises:
        VlmAgentError: the file cannot be written.
    """
    frames = [_frame(story, k).quantize(256, Image.Quantize.MEDIANCUT) for k in range(len(story.steps))]
    # browsers show frames of less than 20 ms at a tenth of a second each
    milliseconds = [max(20, round(1000 * seconds))] * len(frames)
    milliseconds[-1] *= 2

    def save(file: Any) -> None:
        frames[0].save(
            file,
            "GIF",
            save_all=True,
            append_images=frames[1:],
            duration=milliseconds,
            loop=0,
            disposal=1,
            optimize=False,
        )

    return _write(path, save)


def _frame(story: Story, index: int) -> Image.Image:
    """One step as a picture of PICTURE * 2 by PICTURE pixels and margins."""
    font, bold = _fonts()
    canvas = Image.new("RGB", (2 * PICTURE + 3 * MARGIN, PICTURE + 2 * MARGIN), "#0d1117")
    row = story.steps[index]
    image = story.images.get(row.image_sha256)
    draw = ImageDraw.Draw(canvas)
    if image is not None:
        shown = Image.fromarray(np.ascontiguousarray(image))
        scale = PICTURE / max(shown.size)
        size = max(1, round(shown.width * scale)), max(1, round(shown.height * scale))
        # from twice the size on, pixels of drawn pictures keep their edges; below that they are averaged
        how = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
        place = MARGIN + (PICTURE - size[0]) // 2, MARGIN + (PICTURE - size[1]) // 2
        canvas.paste(shown.resize(size, how), place)
    else:
        draw.text((MARGIN, MARGIN), "no picture", fill="#8b949e", font=font)
    left, top = PICTURE + 2 * MARGIN, MARGIN
    for text, colour, heavy in captions(story, index):
        used = bold if heavy else font
        draw.text((left, top), _drawable(text, used), fill=colour, font=used)
        top += round(1.45 * TEXT)
    _draw_progress(draw, story, index)
    return canvas


def captions(story: Story, index: int) -> list[tuple[str, str, bool]]:
    """(text, colour, bold) of each line beside the picture."""
    row, grey, white = story.steps[index], "#8b949e", "#e6edf3"
    so_far = sum(step.reward for step in story.steps[: index + 1])
    last = index == len(story.steps) - 1
    lines = [
        (f"{story.title} · episode {story.episode.id}", grey, False),
        (f"step {index + 1} of {len(story.steps)} · update {row.update_index}", grey, False),
        ("", white, False),
        (f"action  {row.action}", "#56d364" if row.legal_output else "#e3b341", True),
    ]
    if not row.legal_output:
        lines.append(("drawn at random: the output named no legal action", "#e3b341", False))
    lines.append((f"reward {number(row.reward)}   return so far {number(so_far)}", white, False))
    known = [("value", row.value), ("advantage", row.advantage), ("log p", row.logprob)]
    lines.append(("   ".join(f"{name} {number(x)}" for name, x in known if x is not None), grey, False))
    lines.append(("", white, False))
    words = harmless((row.thoughts or row.output)[:MOST_WORDS])
    lines += [(line, white, False) for line in _fold(words, PICTURE, _fonts()[0])[:THOUGHT_LINES]]
    if last:
        good = story.episode.success
        lines += [("", white, False), (headline(story.episode), "#56d364" if good else "#ff7b72", True)]
    return [(harmless(text), colour, heavy) for text, colour, heavy in lines]


def _draw_progress(draw: ImageDraw.ImageDraw, story: Story, index: int) -> None:
    """A thin bar along the bottom."""
    width, height = 2 * PICTURE + 3 * MARGIN, PICTURE + 2 * MARGIN
    draw.rectangle((0, height - 4, width, height), fill="#21262d")
    done = round(width * (index + 1) / len(story.steps))
    draw.rectangle((0, height - 4, done, height), fill="#58a6ff")


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _fonts() -> tuple[Font, Font]:
    """Pillow's own font, for text and for what stands out."""
    return ImageFont.load_default(TEXT), ImageFont.load_default(round(1.25 * TEXT))


def _drawable(text: str, font: Font) -> str:
    """Pillow's bitmap font, all there is without FreeType, knows Latin-1 only."""
    if isinstance(font, ImageFont.FreeTypeFont):
        return text
    return text.encode("latin-1", "replace").decode("latin-1")


def _fold(text: str, width: int, font: Font) -> list[str]:
    """``text`` in lines of at most ``width`` pixels; a word that is too long is broken."""
    lines, line = [], ""
    for word in text.split():
        while word:
            candidate = f"{line} {word}" if line else word
            if font.getlength(_drawable(candidate, font)) <= width:
                line, word = candidate, ""
            elif line:
                lines.append(line)
                line = ""
            else:
                fits = _fitting(word, width, font)
                lines.append(word[:fits])
                word = word[fits:]
    return [*lines, line] if line else lines


def _fitting(word: str, width: int, font: Font) -> int:
    low, high = 1, len(word)
    # at least one character, even where none fits: else `_fold` would not end
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(_drawable(word[:middle], font)) <= width:
            low = middle
        else:
            high = middle - 1
    return low


# HTML


def write_html(story: Story, path: Path) -> Path:
    """The episode as one page: step with the arrow keys, play with space, every token's numbers on hover.

    Raises:
        VlmAgentError: the file cannot be written.
    """
    # half of a surrogate pair has no UTF-8
    return _write(path, lambda file: file.write(page(story).encode("utf-8", "replace")))


def page(story: Story) -> str:
    """One HTML document that loads nothing, runs no script but its own, and holds all pictures as data."""
    # by their hashes exactly this style and this script; no `style=` either, so that colours are classes
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"{story.title} · episode {story.episode.id}"
    sections = "\n".join(_section(story, index) for index in range(len(story.steps)))
    ticks = "".join(_tick(row, k) for k, row in enumerate(story.steps))
    outcome = {True: "good", False: "bad", None: ""}[story.episode.success]
    facts = {
        **story.about,
        "split": story.episode.split,
        "seed": str(story.episode.seed),
        "steps": str(len(story.steps)),
    }
    listed = " · ".join(f"{_text(name)} <b>{_text(value)}</b>" for name, value in facts.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><h1>{_text(title)}</h1>
<p><span class="{outcome}">{_text(headline(story.episode))}</span> · {listed}</p></header>
<nav><button id="play" type="button">play</button><div id="ticks">{ticks}</div><output id="where"></output></nav>
<main>
{sections}
</main>
<footer><p>{_legend()}</p>
<p>Keys: ← → one step, Home and End, space plays. Written by vlmagent.</p></footer>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _section(story: Story, index: int) -> str:
    row = story.steps[index]
    image = story.images.get(row.image_sha256)
    if image is None:
        picture = '<p class="faint">no picture</p>'
    else:
        data = base64.b64encode(codec.encode_image(image)).decode("ascii")
        picture = f'<img src="data:image/png;base64,{data}" alt="what the agent saw in step {index + 1}">'
    so_far = sum(step.reward for step in story.steps[: index + 1])
    legal = "good" if row.legal_output else "warn"
    drawn = "" if row.legal_output else " (drawn at random: the output named no legal action)"
    cells = [
        ("reward", number(row.reward)),
        ("return so far", number(so_far)),
        ("value", _number(row.value)),
        ("advantage", _number(row.advantage)),
        ("return from here", _number(row.return_)),
        ("log p", _number(row.logprob)),
        ("log p of thoughts", _number(row.thought_logprob)),
        ("log p of action", _number(row.action_logprob)),
    ]
    table = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in cells)
    thoughts = f"<h3>thoughts</h3><p class='text'>{_text(row.thoughts)}</p>" if row.thoughts else ""
    return f"""<section id="step-{index}">
<figure>{picture}</figure>
<div class="told">
<h2>step {index + 1} <small>update {row.update_index}</small></h2>
<p class="action {legal}">{_text(row.action)}<small>{drawn}</small></p>
<dl>{table}</dl>
{thoughts}<h3>output</h3><p class="text tokens">{_tokens(row, story.pieces.get(row.id))}</p>
<details><summary>prompt</summary><p class="text">{_text(row.prompt)}</p></details>
</div></section>"""


def _tokens(row: TransitionRow, pieces: Pieces | None) -> str:
    """The output; with known pieces each token is a span that tells its numbers."""
    if pieces is None or row.token_logprobs is None or row.token_ids is None:
        return _text(row.output)
    # without an action all tokens are thoughts
    start = len(pieces.texts) if row.action_start is None else row.action_start
    parts = []
    for k, (text, logprob) in enumerate(zip(pieces.texts, row.token_logprobs.tolist(), strict=False)):
        # a token that wrote nothing and has no name is a part of a character: the one that completes it shows it
        shown = text or (f"‹{pieces.names[k]}›" if k in pieces.names else "")
        if not shown:
            continue
        kind = "action" if k >= start else "thought"
        hint = f"{probability(logprob)}, log p {logprob:.3f}, token {k + 1}, id {row.token_ids[k]}, {kind}"
        parts.append(f'<span class="p{level(logprob)} {kind}" title="{_text(hint)}">{_text(shown)}</span>')
    return "".join(parts)


def _tick(row: TransitionRow, index: int) -> str:
    kind = ""
    if row.reward > 0:
        kind = "good"
    elif row.reward < 0:
        kind = "bad"
    return f'<button type="button" class="{kind}" title="step {index + 1}, reward {number(row.reward)}"></button>'


def _legend() -> str:
    words = [f"≥ {SHARES[0]:.0%}", *(f"≥ {share:.0%}" for share in SHARES[1:]), f"&lt; {SHARES[-1]:.0%}"]
    spans = " ".join(f'<span class="p{n}">&nbsp;{word}&nbsp;</span>' for n, word in enumerate(words))
    return f'probability of each token: {spans} <span class="action">action</span>'


def _text(raw: str) -> str:
    return escape(harmless(raw, lines=True))


def _number(value: float | None) -> str:
    return number(math.nan if value is None else value)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def _write(path: Path, save: Callable[[Any], object]) -> Path:
    """Write a file so that nobody ever sees half of it; its folder is made."""
    try:
        with whole_file(path) as file:
            save(file)
    except OSError as error:
        raise VlmAgentError(
            f"{path} could not be written: {error.strerror or error}. Check the folder and the free space."
        ) from error
    return path
