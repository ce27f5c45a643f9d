"""How quickly the app's pictures follow the stroke, for one person and for twenty at once.

    python -m benchmarks.app --seconds 30                   # one person
    python -m benchmarks.app --users 20 --seconds 120       # twenty, drawing without pause

The app is started as a user starts it, in a process of its own, and spoken to over loopback as its
page does: a changed map out, one style's picture back, and the next as soon as that is here. One
request in four is the end of a stroke, which asks for all four styles. Prints the latencies in
milliseconds, the errors, and the memory of the server over time; --json keeps them.
"""

import argparse
import http.client
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import numpy as np
import torch

from benchmarks.measure import machine

STROKE_END = 4  # one request in so many asks for all styles


class Answer(NamedTuple):
    """One request: when it was sent, how long it took, how it ended."""

    at: float
    ms: float
    status: int  # 0 where the connection failed
    styles: int


class User(threading.Thread):
    """Someone who draws: a brush that wanders over an example map."""

    def __init__(self, number: int, port: int, until: float) -> None:
        super().__init__(daemon=True)
        self.number, self.port, self.until = number, port, until
        self.answers: list[Answer] = []
        self.gen = np.random.default_rng(number)

    def run(self) -> None:
        """Draw until the time is over."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/api/models")
        about = json.loads(connection.getresponse().read())["first"]
        side, classes = about["side"], len(about["classes"])
        connection.request("GET", "/api/examples?model=first")
        maps = np.frombuffer(connection.getresponse().read(), np.uint8).reshape(-1, side, side)
        ids = maps[self.number % len(maps)].copy()
        place = self.gen.uniform(0.2, 0.8, 2)
        while time.monotonic() < self.until:
            place = np.clip(place + self.gen.normal(0, 0.03, 2), 0.05, 0.9)
            y, x = (place * side).astype(int)
            ids[y : y + 12, x : x + 12] = self.gen.integers(1, classes)
            styles = "own,1,2,3" if len(self.answers) % STROKE_END == STROKE_END - 1 else "own"
            self.answers.append(self.draw(connection, ids, styles))
        connection.close()

    def draw(self, connection: http.client.HTTPConnection, ids: Any, styles: str) -> Answer:
        """Send a map and wait for its picture."""
        query = urlencode({"model": "first", "user": self.number, "styles": styles})
        start = time.monotonic()
        try:
            connection.request(
                "POST",
                f"/api/draw?{query}",
                ids.tobytes(),
                {"content-type": "application/octet-stream"},
            )
            answer = connection.getresponse()
            content = answer.read()
            status = answer.status if answer.status != 200 or content[1:4] == b"PNG" else 0
        except (OSError, http.client.HTTPException):
            connection.close()
            status = 0
        return Answer(start, (time.monotonic() - start) * 1e3, status, styles.count(",") + 1)


def memory_mb(process: int) -> float:
    """Return the memory that a process holds."""
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else float("nan")


def served(args: argparse.Namespace) -> tuple[subprocess.Popen[str], int]:
    """Start the app; return its process and port once it answers."""
    run = [] if args.run is None else ["--run", str(args.run)]
    process = subprocess.Popen(
        [sys.executable, "-m", "fewshot_smis", "app", "--port", "0", *run],
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline() if process.stdout else ""
    found = re.search(r":(\d+)/", line)
    if found is None:
        raise SystemExit(f"the app did not start: {line}")
    return process, int(found[1])


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the median, the 95th percentile and the largest."""
    if not values:
        return {}
    median, high, most = np.quantile(values, [0.5, 0.95, 1.0])
    return {"median": round(median, 1), "p95": round(high, 1), "max": round(most, 1)}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Let the users draw, and return what was seen."""
    process, port = served(args)
    try:
        warm = User(0, port, time.monotonic() + 3)
        warm.run()
        start = time.monotonic()
        users = [User(i, port, start + args.seconds) for i in range(args.users)]
        for user in users:
            user.start()
        memory = []
        while any(user.is_alive() for user in users):
            memory.append([round(time.monotonic() - start, 1), round(memory_mb(process.pid), 1)])
            time.sleep(min(args.seconds / 12, 10))
    finally:
        process.terminate()
        process.wait()
    answers = [answer for user in users for answer in user.answers]
    good = [answer for answer in answers if answer.status == 200]
    bad: dict[int, int] = {}
    for answer in answers:
        if answer.status != 200:
            bad[answer.status] = bad.get(answer.status, 0) + 1
    drawn = [len([a for a in user.answers if a.status == 200]) for user in users]
    return {
        "users": args.users,
        "seconds": args.seconds,
        "pictures": len(good),
        "errors": bad,
        "pictures_of_a_user": [min(drawn), max(drawn)],
        "stroke_ms": quantiles([a.ms for a in good if a.styles == 1]),
        "stroke_end_4_styles_ms": quantiles([a.ms for a in good if a.styles == 4]),
        "memory_mb_over_time": memory,
        **machine(torch.device("cpu")),
    }


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--run", type=Path, help="run of `train`; by default the shipped model")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args()
    result = measure(args)
    text = json.dumps(result, indent=2)
    print(text)
    if args.json is not None:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
