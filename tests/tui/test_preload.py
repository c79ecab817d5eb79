import gc
import weakref

from vlmagent.tui.preload import spare_what_stays


class _Cycle:
    def __init__(self) -> None:
        self.own = self


def test_what_stays_is_spared_and_what_comes_later_is_collected() -> None:
    gc.unfreeze()
    try:
        spare_what_stays().join(20)
        assert gc.get_freeze_count() > 10_000
        cycle = _Cycle()
        gone = weakref.ref(cycle)
        del cycle
        gc.collect()
        assert gone() is None
    finally:
        gc.unfreeze()
