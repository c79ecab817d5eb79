import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from tests.tui.made_episodes import make_episodes, make_evaluation, picture
from tests.tui.made_runs import NASTY
from vlmagent.errors import StoreError, VlmAgentError
from vlmagent.paths import Run
from vlmagent.store.codec import clean_text
from vlmagent.store.reader import StoreReader
from vlmagent.store.writer import StoreWriter
from vlmagent.tui.data import story as data_story
from vlmagent.tui.data.pieces import PieceReader
from vlmagent.tui.data.story import Story, export_path, headline, page, read_story, write_gif, write_html
from vlmagent.tui.data.story_page import SCRIPT

VOID = {"meta", "img", "br", "input", "hr", "link"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_episodes(tmp_path_factory.mktemp("runs") / "my-run", 6)


def story(run: Run, episode: int = 5) -> Story:
    with StoreReader(run.database) as reader:
        return read_story(reader, episode, run.name, PieceReader(run))


class Page(HTMLParser):
    """Checks that tags nest, and collects what stands where."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        where = self.open[-1] if self.open else ""
        self.words[where] = self.words.get(where, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_reading(run: Run) -> None:
    told = story(run)
    assert [row.step for row in told.steps] == [0, 1, 2]
    assert len(told.images) == 3
    assert all("".join(told.pieces[row.id].texts) == row.output for row in told.steps)
    assert told.about == {"task": "numberline", "model": "tiny"}
    with StoreReader(run.database) as reader:
        bare = read_story(reader, 5, "x", images=False)
        assert (bare.images, bare.pieces) == ({}, {})
        with pytest.raises(StoreError, match="Episode 99 has no step"):
            read_story(reader, 99, "x")


def test_gif_has_a_frame_for_each_step(run: Run, tmp_path: Path) -> None:
    told = story(run)
    path = write_gif(told, tmp_path / "deep" / "er" / "episode.gif", seconds=0.4)
    with Image.open(path) as image:
        assert image.n_frames == len(told.steps)
        sizes, durations, frames = set(), [], []
        for number in range(image.n_frames):
            image.seek(number)
            sizes.add(image.size)
            durations.append(image.info["duration"])
            frames.append(np.asarray(image.convert("RGB")))
        assert sizes == {
            (2 * data_story.PICTURE + 3 * data_story.MARGIN, data_story.PICTURE + 2 * data_story.MARGIN)
        }
        assert durations == [400, 400, 800]
        assert not np.array_equal(frames[0], frames[1])
        shown = frames[0][data_story.MARGIN + 5, data_story.MARGIN + 5]
        assert (shown > 240).all()  # the picture is white there
    assert [file.name for file in path.parent.iterdir()] == ["episode.gif"]


def test_gif_of_equal_steps_keeps_all_frames(run: Run, tmp_path: Path) -> None:
    told = story(run)
    same = replace(told, steps=[told.steps[0]] * 7, images={told.steps[0].image_sha256: picture(0)})
    with Image.open(write_gif(same, tmp_path / "same.gif")) as image:
        assert image.n_frames == 7


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (300, 300), (900, 700)])
def test_gif_of_any_picture(run: Run, tmp_path: Path, shape: tuple[int, int]) -> None:
    told = story(run)
    images = {row.image_sha256: np.full((*shape, 3), 90, dtype=np.uint8) for row in told.steps}
    with Image.open(write_gif(replace(told, images=images), tmp_path / "x.gif")) as image:
        assert image.n_frames == 3


def nasty(told: Story) -> Story:
    text = clean_text(NASTY) + "</p><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;<!--\0"
    rows = [
        replace(row, output=text, thoughts=text, prompt=text, action=text, legal_output=False)
        for row in told.steps
    ]
    return replace(told, title=text[:300], steps=rows, pieces={}, images={}, about={"model": text[:300]})


def test_gif_of_nasty_text_and_no_picture(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Image.open(write_gif(nasty(story(run)), tmp_path / "x.gif")) as image:
        assert image.n_frames == 3
    bitmap = ImageFont.load_default_imagefont()
    monkeypatch.setattr(data_story, "_fonts", lambda: (bitmap, bitmap))
    with Image.open(write_gif(nasty(story(run)), tmp_path / "y.gif")) as image:
        assert image.n_frames == 3


def test_captions(run: Run) -> None:
    told = story(run)
    lines = [text for text, _, _ in data_story.captions(told, 0)]
    assert "my-run · episode 5" in lines
    assert "step 1 of 3 · update 1" in lines
    assert "drawn at random: the output named no legal action" in lines
    assert "reward -0.50   return so far -0.50" in lines
    assert "success, return 1.00" not in lines
    assert "success, return 1.00" in [text for text, _, _ in data_story.captions(told, 2)]
    failed = told.episode.__class__(
        *[getattr(story(run, 3).episode, name) for name in told.episode.__slots__]
    )
    assert headline(failed) == "failure (cut off), return -1.50"
    assert headline(replace(failed, ended="running", success=None, episode_return=None)) == "unfinished"


def test_page(run: Run) -> None:
    told = story(run)
    text = page(told)
    parsed = Page(text)
    assert len(parsed.all("section")) == 3
    sources = [attrs["src"] for attrs in parsed.all("img")]
    assert len(sources) == 3
    assert all(source and source.startswith("data:image/png;base64,") for source in sources)
    spans = [attrs for attrs in parsed.all("span") if attrs.get("title")]
    assert len(spans) >= sum(len([t for t in told.pieces[row.id].texts if t]) for row in told.steps)
    assert any("action" in (attrs["class"] or "") for attrs in spans)
    assert "log p -" in str(spans[1]["title"])
    assert "‹&lt;/s&gt;›" in text
    assert parsed.words["title"] == "my-run · episode 5"
    assert parsed.words["script"] == SCRIPT
    assert "ArrowRight" in SCRIPT


def test_page_stands_alone_and_may_run_nothing_else(run: Run) -> None:
    text = page(story(run))
    parsed = Page(text)
    (policy,) = [attrs["content"] for attrs in parsed.all("meta") if attrs.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag, attrs in parsed.tags:
        assert tag not in ("link", "iframe", "object", "form")
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
    assert "http:" not in text
    assert "https:" not in text
    assert text.count("<script") == 1


def test_page_escapes_everything(run: Run) -> None:
    text = page(nasty(story(run)))
    parsed = Page(text)
    assert len(parsed.all("script")) == 1
    assert parsed.all("img") == []
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert not any(ord(character) < 32 and character != "\n" for character in text)
    assert "\u202e" not in text
    assert "no picture" in text
    assert "y" * 100_000 in text


def test_page_with_pieces_escapes_everything(run: Run) -> None:
    """The tokens of an output that holds HTML."""
    from tests.tui.made_episodes import tokenizer, transition

    row = story(run).steps[0]
    made = transition(1, 1, 0, output='<script>alert("x")</script> {"action": "&"}').decision.generation
    assert made is not None
    changed = replace(
        row,
        output=made.text,
        token_ids=made.token_ids,
        token_logprobs=made.token_logprobs,
        action_start=made.action_start,
    )
    pieces = PieceReader(run).split(made.text, made.token_ids)
    assert pieces is not None
    assert tokenizer().decode(made.token_ids.tolist()) == made.text
    text = page(replace(story(run), steps=[changed], pieces={changed.id: pieces}))
    assert len(Page(text).all("script")) == 1


def test_page_of_numbers_that_are_missing(run: Run, tmp_path: Path) -> None:
    told = story(run)
    rows = [
        replace(row, value=None, advantage=None, return_=None, logprob=None, thought_logprob=None, action_logprob=None,
                token_ids=None, token_logprobs=None, action_start=None, thoughts="", reward=float("nan"))
        for row in told.steps
    ]  # fmt: skip
    Page(page(replace(told, steps=rows, pieces={})))
    with Image.open(write_gif(replace(told, steps=rows), tmp_path / "x.gif")) as image:
        assert image.n_frames == 3


def test_where_files_go(run: Run) -> None:
    assert export_path(run, run.database, 12, "gif") == run.path / "exports" / "episode-12.gif"
    evaluation = make_evaluation(run, "step-0", [True])
    assert export_path(run, evaluation, 1, "html").name == f"{evaluation.stem}-episode-1.html"


def test_a_folder_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (write_gif, write_html):
        with pytest.raises(VlmAgentError, match="could not be written"):
            write(story(run), tmp_path / "file" / "x.out")
    target = tmp_path / "there"
    target.mkdir()
    (target / "x").mkdir()
    with pytest.raises(VlmAgentError, match="could not be written"):
        write_html(story(run), target / "x")
    assert [path.name for path in target.iterdir()] == ["x"]


def test_damaged_pictures_are_left_out(tmp_path: Path) -> None:
    run = make_episodes(tmp_path / "run", 1)
    import sqlite3

    with sqlite3.connect(run.database) as connection:
        connection.execute("UPDATE images SET data = x'00' WHERE rowid = 1")
        connection.execute("DELETE FROM images WHERE rowid = 2")
    connection.close()
    told = story(run, 1)
    assert len(told.images) == 1
    Page(page(told))


def test_it_needs_no_terminal_and_no_torch(run: Run, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom vlmagent.store.reader import StoreReader\n"
        "from vlmagent.tui.data.story import read_story, write_gif, write_html\n"
        "run, out = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "with StoreReader(run / 'run.db') as reader:\n    story = read_story(reader, 1, run.name)\n"
        "print(write_gif(story, out / 'a.gif').is_file(), write_html(story, out / 'a.html').is_file(), "
        "'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True", "False"]


def test_an_episode_without_pictures_of_its_own(tmp_path: Path) -> None:
    """All steps may show the same picture: it is read once."""
    with StoreWriter(tmp_path / "run.db") as writer:
        from tests.tui.made_episodes import write_episode

        writer.start_run("r", "numberline", "tiny", "{}", 0)
        write_episode(writer, 1, 1, steps=4, image=picture(3))
    with StoreReader(tmp_path / "run.db") as reader:
        told = read_story(reader, 1, "r")
    assert len(told.images) == 1
