"""One thread does all the drawing, so that many people can share one model.

Strokes wait in line, one a person: a later stroke takes the place of one still waiting. Those
next in line are drawn together, since a batch costs less than its parts. Long errands (a
photograph to invert) go on one step after each batch, so neither starves the other.
"""

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from fewshot_smis.app.studio import Progress
from stylegan.errors import ConfigError, FewshotError

_LOG = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_TOGETHER = 8  # strokes drawn at once
MOST_FINISHED = 64  # errands whose results can still be fetched


class BusyError(FewshotError):
    """More people wait than are served."""


class SupersededError(FewshotError):
    """A later stroke of the same person has taken this one's place."""


class Stroke(NamedTuple):
    """Something to draw, and where its picture is awaited."""

    work: Callable[[Sequence[Any]], Sequence[Any]]
    item: Any
    future: "Future[Any]"


class Errand:
    """A long piece of work and how far it is.

    Attributes:
        result: What it gave, once it is done.
        error: What went wrong, if it failed.
    """

    def __init__(self, work: Iterator[Progress]) -> None:
        self.id = secrets.token_hex(8)
        self.step, self.steps = 0, 0
        self.result: Any = None
        self.error = ""
        self._work, self._state, self._stop = work, "waiting", False

    @property
    def state(self) -> str:
        """One of "waiting", "running", "done", "failed" and "cancelled"."""
        return "cancelled" if self._stop and self._state in ("waiting", "running") else self._state

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in ("done", "failed", "cancelled")

    def cancel(self) -> None:
        """Stop before the next step."""
        self._stop = True

    def advance(self) -> None:
        """Take one step."""
        self._state = "running"
        try:
            report = next(self._work)
        except FewshotError as error:
            self._state, self.error = "failed", str(error)
        except Exception as error:  # the desk serves on
            _LOG.exception("errand %s", self.id)
            self._state, self.error = "failed", f"an unexpected fault ({type(error).__name__})"
        else:
            self.step, self.steps, self.result = report
            self._state = "done" if report.step >= report.steps else "running"


class Desk:
    """The line of waiting strokes, the line of errands, and the thread that serves both.

    Args:
        most_waiting: People whose strokes may wait at once.
        most_errands: Errands that may wait at once.
    """

    def __init__(self, *, most_waiting: int = 32, most_errands: int = 8) -> None:
        self.most_waiting, self.most_errands = most_waiting, most_errands
        self._strokes: OrderedDict[str, Stroke] = OrderedDict()
        self._errands: OrderedDict[str, Errand] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="desk", daemon=True)
        self._thread.start()

    def draw(
        self, user: str, work: Callable[[Sequence[Item]], Sequence[Result]], item: Item
    ) -> "Future[Result]":
        """Line up `item` for `user`; what still waits for the same user gives up its place.

        `work` is called with this item, and with those that others want the same work done on,
        and returns the results in their order.

        Raises:
            BusyError: Too many people wait.
        """
        future: Future[Result] = Future()
        with self._changed:
            earlier = self._strokes.get(user)
            if earlier is None and len(self._strokes) >= self.most_waiting:
                raise BusyError(
                    f"{len(self._strokes)} people are waiting for their pictures; try again in a "
                    "moment"
                )
            self._strokes[user] = Stroke(work, item, future)
            self._changed.notify()
        if earlier is not None and earlier.future.set_running_or_notify_cancel():
            earlier.future.set_exception(SupersededError("a later stroke has taken its place"))
        return future

    def send(self, work: Iterator[Progress]) -> Errand:
        """Line up a long errand.

        Raises:
            BusyError: Too many errands wait.
        """
        errand = Errand(work)
        with self._changed:
            waiting = sum(not e.ended for e in self._errands.values())
            if waiting >= self.most_errands:
                raise BusyError(f"{waiting} pictures are waiting to be looked at; try again soon")
            self._errands[errand.id] = errand
            for old in [e.id for e in self._errands.values() if e.ended][:-MOST_FINISHED]:
                del self._errands[old]
            self._changed.notify()
        return errand

    def errand(self, name: str) -> Errand:
        """Return the errand of that name.

        Raises:
            ConfigError: There is none, or it is long over.
        """
        with self._changed:
            if name not in self._errands:
                raise ConfigError(f"errand '{name[:16]}' is unknown or long over; start it again")
            return self._errands[name]

    def ahead(self, errand: Errand) -> int:
        """Return how many errands will be done before this one."""
        with self._changed:
            pending = [e.id for e in self._errands.values() if not e.ended]
        return pending.index(errand.id) if errand.id in pending else 0

    def close(self) -> None:
        """Finish what is being drawn, and stop; what still waits is cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for stroke in self._strokes.values():
            stroke.future.cancel()

    def _next_errand(self) -> Errand | None:
        return next((e for e in self._errands.values() if not e.ended), None)

    def _next_strokes(self) -> list[Stroke]:
        """Take the first stroke in line, and those after it that are drawn by the same work."""
        taken: list[str] = []
        for user, stroke in self._strokes.items():
            same = not taken or stroke.work == self._strokes[taken[0]].work
            if same and len(taken) < MOST_TOGETHER:
                taken.append(user)
        return [self._strokes.pop(user) for user in taken]

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or bool(self._strokes) or self._next_errand() is not None
                )
                if self._closed:
                    return
                strokes = self._next_strokes()
                errand = self._next_errand()
            _carry_out([s for s in strokes if s.future.set_running_or_notify_cancel()])
            if errand is not None:
                errand.advance()


def _carry_out(strokes: list[Stroke]) -> None:
    """Draw strokes of the same work; if they cannot be drawn together, each by itself."""
    if not strokes:
        return  # whoever asked has gone
    try:
        results = strokes[0].work([stroke.item for stroke in strokes])
    except Exception as error:
        if len(strokes) == 1:
            strokes[0].future.set_exception(error)
            return
        for stroke in strokes:
            _carry_out([stroke])
        return
    for stroke, result in zip(strokes, results, strict=True):
        stroke.future.set_result(result)
