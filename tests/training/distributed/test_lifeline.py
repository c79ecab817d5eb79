import socket
import threading

import pytest

from tests.training.distributed.thread_ranks import Meeting, ThreadRanks, together
from vlmagent.errors import RunFailedError
from vlmagent.training.distributed import lifeline
from vlmagent.training.distributed.lifeline import Lifeline


def linked(world: int) -> tuple[list[Lifeline], list[threading.Event]]:
    """Lifelines of all processes, and what is set when one of them notices a loss."""
    losses = [threading.Event() for _ in range(world)]
    lines = together(world, lambda ranks: Lifeline(ranks, "127.0.0.1", losses[ranks.rank].set))
    return lines, losses


def test_a_death_is_noticed_by_the_first_process():
    lines, losses = linked(3)
    (connection,) = lines[2]._connections
    connection.shutdown(socket.SHUT_RDWR)  # as the kernel does for a process that is killed
    assert losses[0].wait(20)
    assert not losses[1].is_set()


def test_the_death_of_the_first_process_is_noticed_by_all():
    lines, losses = linked(3)
    for connection in lines[0]._connections:
        connection.shutdown(socket.SHUT_RDWR)
    assert losses[1].wait(20)
    assert losses[2].wait(20)


def test_an_end_in_order_is_no_loss():
    before = set(threading.enumerate())
    lines, losses = linked(2)
    watchers = [thread for thread in threading.enumerate() if thread not in before]
    assert len(watchers) == 2
    for line in lines:
        line.close()
    for thread in watchers:
        thread.join(20)
        assert not thread.is_alive()
    assert not any(loss.is_set() for loss in losses)


def test_strangers_are_sent_away(monkeypatch: pytest.MonkeyPatch):
    """Somebody else connects first, says something, and goes: nothing happens to the group."""
    original = lifeline._connect

    def after_a_stranger(ranks: ThreadRanks, address: str) -> socket.socket:
        port, token = ranks.share((0, b""))
        with socket.create_connection((address, port)) as stranger:
            stranger.sendall(b"0123456789abcdef")
        told = ThreadRanks(1, 2, Meeting(1))
        told.share = lambda item: (port, token)  # type: ignore[method-assign]
        return original(told, address)

    monkeypatch.setattr(lifeline, "_connect", after_a_stranger)
    lines, losses = linked(2)
    assert len(lines[0]._connections) == 1
    assert not losses[0].is_set()


def test_one_that_cannot_connect_says_so():
    class Misled(ThreadRanks):
        def share(self, item):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
            return port, b""

    with pytest.raises(RunFailedError, match="Process 1 could not connect"):
        Lifeline(Misled(1, 2, Meeting(1)), "127.0.0.1", lambda: None)
