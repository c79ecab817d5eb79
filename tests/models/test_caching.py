"""A cache with a size: what it keeps, what goes first, what it counts."""

from vlmagent.models.caching import SizedCache


def test_the_least_recently_used_goes_first():
    cache: SizedCache[str, bytes] = SizedCache(10, len)
    assert cache.find_or_make("a", lambda: b"1234") == b"1234"
    cache.keep("b", b"5678")
    assert cache.find("a") == b"1234"
    cache.keep("c", b"90")
    cache.keep("d", b"xx")  # 12 bytes: b was used longest ago
    assert (cache.find("b"), cache.find("a"), len(cache), cache.nbytes) == (None, b"1234", 3, 8)


def test_hits_and_misses():
    cache: SizedCache[int, bytes] = SizedCache(2, len)
    for key in (1, 2, 1, 2, 3, 1):
        cache.find_or_make(key, lambda: b"x")
    assert (cache.hits, cache.misses) == (2, 4)


def test_what_is_too_large_is_used_and_not_kept():
    cache: SizedCache[int, bytes] = SizedCache(2, len)
    cache.keep(1, b"x")
    assert cache.find_or_make(2, lambda: b"large") == b"large"
    assert (cache.find(2), cache.find(1)) == (None, b"x")
