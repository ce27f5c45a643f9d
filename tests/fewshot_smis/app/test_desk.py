"""Who is served when."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from fewshot_smis.app.desk import BusyError, Desk, SupersededError
from fewshot_smis.app.studio import Progress
from stylegan.errors import ConfigError, DataError


def once(work: Callable[[], Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """Work that is drawn with no other."""
    return lambda items: [work() for _ in items]


class Held:
    """Work that waits until it is let go, so that others line up behind it."""

    def __init__(self, desk: Desk) -> None:
        self.go, begun = threading.Event(), threading.Event()
        self.future = desk.draw("holder", once(lambda: (begun.set(), self.go.wait(10))), None)
        assert begun.wait(10)


def counted(steps: int, seen: list[str], name: str) -> Iterator[Progress]:
    for step in range(1, steps + 1):
        seen.append(f"{name}{step}")
        yield Progress(step, steps, name if step == steps else None)


def test_users_are_served_in_turn_and_the_latest_stroke_of_each_wins(desk: Desk) -> None:
    held, seen = Held(desk), []
    first = desk.draw("a", once(lambda: seen.append("a, early")), None)
    other = desk.draw("b", once(lambda: seen.append("b")), None)
    later = desk.draw("a", once(lambda: seen.append("a, late")), None)
    with pytest.raises(SupersededError, match="a later stroke"):
        first.result(10)
    held.go.set()
    later.result(10)
    other.result(10)
    assert seen == ["a, late", "b"]


def test_a_full_line_refuses_others_but_not_those_in_it(desk: Desk) -> None:
    held = Held(desk)
    waiting = [desk.draw(name, once(lambda: 1), None) for name in "ab"]
    with pytest.raises(BusyError, match="2 people are waiting"):
        desk.draw("c", once(lambda: 1), None)
    again = desk.draw("a", once(lambda: 2), None)
    held.go.set()
    assert (again.result(10), waiting[1].result(10)) == (2, 1)
    assert desk.draw("c", once(lambda: 3), None).result(10) == 3


def test_strokes_of_the_same_work_are_drawn_together_up_to_a_limit() -> None:
    desk, calls = Desk(), []

    def double(items: Sequence[int]) -> list[int]:
        calls.append(list(items))
        if 13 in items:
            raise DataError("unlucky")
        return [2 * item for item in items]

    held = Held(desk)
    futures = [desk.draw(str(i), double, i) for i in range(10)]
    other = desk.draw("other", once(lambda: "other"), None)
    held.go.set()
    assert [future.result(10) for future in futures] == [2 * i for i in range(10)]
    assert other.result(10) == "other"
    assert calls == [list(range(8)), [8, 9]]
    calls.clear()
    held = Held(desk)
    futures = [desk.draw(str(i), double, i) for i in (12, 13, 14)]
    held.go.set()
    assert (futures[0].result(10), futures[2].result(10)) == (24, 28)
    with pytest.raises(DataError, match="unlucky"):
        futures[1].result(10)
    assert calls == [[12, 13, 14], [12], [13], [14]]
    desk.close()


def test_what_goes_wrong_reaches_the_one_who_asked_alone(desk: Desk) -> None:
    def fail() -> None:
        raise DataError("no good")

    with pytest.raises(DataError, match="no good"):
        desk.draw("a", once(fail), None).result(10)
    assert desk.draw("a", once(lambda: 1), None).result(10) == 1


def test_an_errand_goes_on_between_strokes_and_gives_its_result(desk: Desk) -> None:
    held, seen = Held(desk), []
    errand = desk.send(counted(3, seen, "e"))
    strokes = [desk.draw(name, once(lambda name=name: seen.append(name)), None) for name in "ab"]
    assert (errand.state, desk.ahead(errand)) == ("waiting", 0)
    held.go.set()
    for stroke in strokes:
        stroke.result(10)
    while not errand.ended:
        desk.draw("c", once(lambda: None), None).result(10)
    assert seen == ["a", "e1", "b", "e2", "e3"]
    assert (errand.state, errand.step, errand.result) == ("done", 3, "e")


def test_errands_wait_are_cancelled_and_are_limited(desk: Desk) -> None:
    held, seen = Held(desk), []
    one, two = (desk.send(counted(50, seen, name)) for name in "xy")
    assert desk.ahead(two) == 1
    with pytest.raises(BusyError, match="2 pictures are waiting"):
        desk.send(counted(1, seen, "z"))
    one.cancel()
    assert (one.state, desk.ahead(two)) == ("cancelled", 0)
    three = desk.send(counted(1, seen, "z"))
    held.go.set()
    while not three.ended:
        desk.draw("c", once(lambda: None), None).result(10)
    assert two.state == "done"
    assert not any(name.startswith("x") for name in seen)
    assert desk.errand(two.id) is two
    with pytest.raises(ConfigError, match="unknown or long over"):
        desk.errand("nothing")


def test_a_failed_errand_says_why_and_the_desk_serves_on(desk: Desk) -> None:
    def known() -> Iterator[Progress]:
        raise DataError("a broken picture")
        yield Progress(1, 1)

    def unknown() -> Iterator[Progress]:
        raise RuntimeError("secret")
        yield Progress(1, 1)

    for work, told in (
        (known, "a broken picture"),
        (unknown, "an unexpected fault (RuntimeError)"),
    ):
        errand = desk.send(work())
        while not errand.ended:
            desk.draw("c", once(lambda: None), None).result(10)
        assert (errand.state, errand.error) == ("failed", told)


def test_closing_cancels_what_waits() -> None:
    desk = Desk()
    held = Held(desk)
    waiting = desk.draw("a", once(lambda: 1), None)
    held.go.set()
    desk.close()
    assert waiting.cancelled() or waiting.result(0) == 1
