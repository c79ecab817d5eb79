"""Cards and the table: what can be seen in a picture."""

import itertools

import numpy as np
import pytest
from PIL import Image

from vlmagent_envs.cards import RANK_NAMES, SUITS, Card, card_sprite, deal, parse_card
from vlmagent_envs.contact_sheet import contact_sheet
from vlmagent_envs.table import GREEN, blackjack_picture, deal_picture, write_formula

ALL = [Card(rank, suit) for rank in range(1, 14) for suit in SUITS]


def test_names_are_read_back():
    assert [card.name for card in ALL[:4]] == ["AS", "AH", "AD", "AC"]
    assert [parse_card(card.name) for card in ALL] == ALL
    assert len(RANK_NAMES) == 13


@pytest.mark.parametrize("name", ["", "10", "H", "1H", "11H", "TH", "10h", "10HH", "AX"])
def test_bad_names(name):
    with pytest.raises(ValueError, match="like '10H'; received"):
        parse_card(name)


def test_deals_are_even_over_ranks_and_suits():
    cards = deal(np.random.default_rng(0), 52 * 400)
    counts = [cards.count(card) for card in ALL]
    assert min(counts) > 310
    assert max(counts) < 490


@pytest.mark.parametrize("size", [(118, 174), (69, 106), (44, 66)])
def test_every_card_looks_different_even_when_small(size):
    small = (size[0] * 84 // 300, size[1] * 84 // 300)
    seen = {
        card: np.asarray(card_sprite(card, *size).convert("RGB").resize(small), float)
        for card in [*ALL, None]
    }
    for one, other in itertools.combinations(seen, 2):
        same_rank = one and other and one.rank == other.rank
        assert np.abs(seen[one] - seen[other]).mean() > (0.8 if same_rank else 2.0)


def test_corners_are_transparent_and_the_middle_is_not():
    alpha = np.asarray(card_sprite(Card(5, "H"), 69, 106).getchannel("A"))
    assert alpha.shape == (106, 69)
    assert alpha[0, 0] == alpha[-1, -1] == 0
    assert (alpha[10:-10, 10:-10] == 255).all()


def test_a_deal_shows_each_card_and_an_empty_line():
    picture = deal_picture(ALL[:4])
    assert picture.shape == (300, 300, 3)
    assert tuple(picture[2, 2]) == GREEN
    other = deal_picture([*ALL[:3], ALL[7]])
    columns = np.flatnonzero((picture != other).any(axis=(0, 2)))
    assert columns.min() > 225  # only the fourth card differs


def test_pictures_belong_to_the_caller():
    first = deal_picture(ALL[:2])
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(deal_picture(ALL[:2]), kept)
    hand = blackjack_picture([ALL[0], None], ALL[:2])
    kept = hand.copy()
    hand[:] = 0
    assert np.array_equal(blackjack_picture([ALL[0], None], ALL[:2]), kept)


@pytest.mark.parametrize(
    "tokens", [[], ["5"], ["10"] * 4, ["("] * 20, ["10", "*"] * 10, ["(", " ", "-"] * 30]
)
def test_formulas_stay_inside_their_panel(tokens):
    before = deal_picture(ALL[:4])
    after = before.copy()
    write_formula(after, tokens)
    rows = np.flatnonzero((before != after).any(axis=(1, 2)))
    columns = np.flatnonzero((before != after).any(axis=(0, 2)))
    assert bool(rows.size) == bool(tokens)
    if tokens:
        assert rows.min() >= 230
        assert rows.max() < 292
        assert columns.min() >= 8
        assert columns.max() < 292


def test_formulas_of_one_length_look_different():
    pictures = set()
    for token in ["1", "7", "+", "-", "*", "/", "(", ")"]:
        picture = deal_picture(ALL[:4])
        write_formula(picture, ["5", token])
        pictures.add(picture.tobytes())
    assert len(pictures) == 8


@pytest.mark.parametrize("count", [*range(2, 13), 21])
def test_blackjack_shows_every_card_of_the_player(count):
    """Changing any one card changes the picture by more than a sliver, and nothing leaves the picture."""
    hand = [Card(8, "S")] * count
    picture = blackjack_picture([Card(5, "H"), None], hand).astype(int)
    for index in range(count):
        changed = [*hand[:index], Card(4, "D"), *hand[index + 1 :]]
        difference = np.abs(blackjack_picture([Card(5, "H"), None], changed) - picture).sum(axis=2) > 60
        assert difference.sum() > 60
    assert (picture[-1] == GREEN).all()
    assert (picture[:, -1] == GREEN).all()


def test_the_dealers_second_card_cannot_be_seen():
    hidden = blackjack_picture([Card(5, "H"), None], ALL[:2])
    shown = blackjack_picture([Card(5, "H"), Card(9, "C")], ALL[:2])
    assert not np.array_equal(hidden, shown)


def test_contact_sheet():
    sheet = contact_sheet()
    assert isinstance(sheet, Image.Image)
    assert sheet.size == (16 + 4 * 316, 34 + 300 + 16 + 84 + 16)
