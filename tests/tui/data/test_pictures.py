from pathlib import Path

import pytest

from tests.tui.made_episodes import make_episodes
from vlmagent.errors import StoreError
from vlmagent.store.reader import StoreReader
from vlmagent.tui.data.pictures import Pictures
from vlmagent.tui.data.source import Source


async def test_the_latest_are_kept_and_the_rest_is_read_again(tmp_path: Path) -> None:
    run = make_episodes(tmp_path / "r", 2)
    with StoreReader(run.database) as reader:
        keys = [row.image_sha256 for row in reader.transitions(1)]
        size = reader.image(keys[0]).nbytes
    source = Source(run.database)
    pictures = Pictures(source, 2 * size)
    assert pictures.known(keys[0]) is None
    first = await pictures.read(keys[0])
    await pictures.read(keys[1])
    assert await pictures.read(keys[0]) is first  # which makes it the latest but one
    await pictures.read(keys[2])
    assert [pictures.known(key) is not None for key in keys] == [True, False, True]
    assert (await pictures.read(keys[1])).shape == first.shape
    with pytest.raises(StoreError):
        await pictures.read("0" * 64)
    source.close()


async def test_a_picture_larger_than_all_room_is_read_each_time(tmp_path: Path) -> None:
    run = make_episodes(tmp_path / "r", 1)
    with StoreReader(run.database) as reader:
        key = reader.transitions(1)[0].image_sha256
    source = Source(run.database)
    pictures = Pictures(source, 10)
    assert (await pictures.read(key)).shape == (30, 30, 3)
    assert pictures.known(key) is None
    source.close()
