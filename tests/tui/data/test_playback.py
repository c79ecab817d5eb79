from vlmagent.tui.data.playback import SPEEDS, Playback


def test_playback_moves_and_stays_inside() -> None:
    at = Playback()
    at.toggle()
    assert (at.playing, at.move(1), at.seek_share(0.5), at.at) == (False, False, False, 0)
    at.resize(5)
    assert at.move(2)
    assert at.at == 2
    assert not at.seek(2)
    assert at.seek(99)
    assert (at.at, at.last) == (4, True)
    assert at.seek_share(0.5)
    assert at.at == 2
    assert at.move(-9)
    assert at.at == 0
    at.seek(4)
    at.resize(2)
    assert at.at == 1


def test_playback_plays_to_the_end_and_again() -> None:
    at = Playback(count=3)
    assert not at.tick()
    at.toggle()
    assert [at.tick(), at.at, at.playing] == [True, 1, True]
    assert [at.tick(), at.at, at.playing] == [True, 2, False]
    at.toggle()
    assert (at.at, at.playing) == (0, True)
    at.toggle()
    assert not at.playing


def test_playback_speeds() -> None:
    at = Playback(count=3)
    at.faster(-99)
    assert at.speed == SPEEDS[0]
    at.faster(99)
    assert at.speed == SPEEDS[-1]
