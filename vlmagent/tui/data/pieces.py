"""Which characters of an output each of its tokens wrote, found with the run's own tokenizer.

The store keeps an output's text and its token ids; the tokenizer lies in the run's checkpoints. Uses the small
``tokenizers`` library only, never torch or transformers. Deliberately knows no widget.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from vlmagent import paths
from vlmagent.paths import Run
from vlmagent.training.saved import newest_checkpoint

TOKENIZER = "tokenizer.json"
STRIDE = 128  # prefixes are decoded from a point at most about this many tokens back
CACHED = 512
"""Outputs that are kept cut: those of the episodes that one goes back and forth between."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """An output in pieces: SentencePiece's word for the text that one token stands for.

    Attributes:
        texts: what each token wrote, length L; together they are the output. A token that wrote none of it (a
            special token, a part of a character that a later token completes) has "".
        names: the vocabulary's names, by position, of those that write nothing by themselves either: special tokens,
            and a first blank where the decoder drops it.
    """

    texts: tuple[str, ...]
    names: dict[int, str]


def tokenizer_files(run: Run, checkpoint: str | None = None) -> Iterable[Path]:
    """Where a run's tokenizer may lie, the likeliest first; all checkpoints of a run have the same one."""
    folder = run.checkpoints
    if checkpoint and checkpoint != paths.LATEST:
        yield folder / checkpoint / TOKENIZER
    newest = newest_checkpoint(run)  # by its steps: a link may be lost, or a folder in a copied run
    if newest is not None:
        yield newest / TOKENIZER
    try:
        others = sorted(folder.glob(f"*/{TOKENIZER}"))
    except OSError:
        return
    yield from reversed(others)


class PieceReader:
    """Splits outputs of one run. May be used from several threads."""

    def __init__(self, run: Run, checkpoint: str | None = None) -> None:
        self.run = run
        self.checkpoint = checkpoint
        # one split at a time: the list, a replay and a side of a comparison read on threads of their own
        self._lock = threading.Lock()
        self._cache: LRUCache[tuple[str, bytes], Pieces | None] = LRUCache(CACHED)

    def split(self, output: str, token_ids: Any) -> Pieces | None:
        """The output in pieces, or None when no tokenizer was found that writes exactly this text.

        Args:
            token_ids: int64 (L,).
        """
        # both: equal texts may be written by other tokens
        key = (output, token_ids.tobytes())
        with self._lock:
            if key in self._cache:
                return self._cache[key]
            found = self._split(output, [int(id_) for id_ in token_ids])
            self._cache[key] = found
            return found

    def _split(self, output: str, ids: list[int]) -> Pieces | None:
        for file in tokenizer_files(self.run, self.checkpoint):
            try:
                # the time is part of the cache's key: a tokenizer that was written anew is read anew
                tokenizer = _load(file, file.stat().st_mtime)
            except OSError:
                continue
            if tokenizer is not None:
                # the first that can be read decides: checkpoints of one run have the same
                return split_output(output, ids, tokenizer.decode, tokenizer.id_to_token)
        return None


# one a run, mostly: a tokenizer is a file of several megabytes, too much to parse for every output
@lru_cache(maxsize=8)
def _load(file: Path, _changed: float) -> Any:
    """The tokenizer in ``file``, or None when it cannot be used."""
    try:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(file))
    except Exception:  # the library raises bare Exceptions; then the output is shown without colours
        return None


def split_output(
    output: str,
    ids: Sequence[int],
    decode: Callable[[list[int]], str],
    name: Callable[[int], str | None] = lambda _: None,
) -> Pieces | None:
    """Cut ``output`` where each token ends.

    Token k ends where the text of the first k tokens stops agreeing with the output: that text may end in
    U+FFFD for a character whose last bytes are still to come, which then belongs to the token that completes
    it.

    Args:
        decode: maps ids to text, special tokens left out.
        name: the vocabulary's word for an id.

    Returns:
        None when ``decode`` does not give ``output``: these are another model's ids.
    """
    ids = list(ids)
    try:
        ends = _ends(output, ids, decode)
    except Exception:  # an id that this vocabulary does not have
        return None
    if ends is None:
        return None
    # each piece begins where the one before it ends; no token, no piece
    starts = [0, *ends][: len(ends)]
    texts = tuple(output[start:end] for start, end in zip(starts, ends, strict=True))
    # a token that writes nothing here but something alone is a part of a character: it is no special one to be named
    names = {k: name(id_) or str(id_) for k, id_ in enumerate(ids) if not texts[k] and not decode([id_])}
    return Pieces(texts, names)


def _ends(output: str, ids: list[int], decode: Callable[[list[int]], str]) -> list[int] | None:
    """For each token the offset in ``output`` where it ends; None when the ids do not write ``output``."""
    # another tokenizer's ids, or an output that was cut or cleaned after decoding
    if decode(ids) != output:
        return None
    ends: list[int] = []
    anchor = base = reach = 0  # the tokens before ``anchor`` write output[:base]
    for k in range(1, len(ids) + 1):
        # from the anchor on only: decoding the whole prefix for every token would cost the square of the length
        window = decode(ids[anchor:k])
        # an end never goes back; a token that only begins a character shows U+FFFD, which agrees with nothing
        reach = max(reach, base + _agreement(output, base, window))
        ends.append(reach)
        # The next windows may begin here if the rest reads the same by itself: a decoder may drop the blank that a
        # text begins with, and the next byte may belong to the characters before it.
        complete = reach == base + len(window)
        if k - anchor >= STRIDE and complete and decode(ids[k:]) == output[reach:]:
            anchor, base = k, reach
    if ends:
        ends[-1] = len(output)
    return ends


def _agreement(output: str, start: int, text: str) -> int:
    """How many characters of ``text`` agree with ``output`` from ``start`` on."""
    if output.startswith(text, start):
        return len(text)
    # by halves, because comparing prefixes is done in C and a loop over characters in Python
    low, high = 0, len(text)  # the longest prefix that agrees
    while low < high:
        middle = (low + high + 1) // 2
        if output.startswith(text[:middle], start):
            low = middle
        else:
            high = middle - 1
    return low
