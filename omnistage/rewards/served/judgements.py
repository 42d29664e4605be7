"""Answers of a server, asked for side by side and kept by the content of the question.

A judgement is kept under the sha256 of what was asked, in ``OMNISTAGE_JUDGEMENTS``: a folder or an
``s3://`` URI in the store: a resumed run, a second run and the evaluation ask nothing twice.
Errors of that place do not end a run; the server is asked again.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import orjson

from omnistage.errors import DamagedError, InputError, TransientError
from omnistage.files import write_atomic
from omnistage.rewards.served.client import CACHE_VARIABLE, JudgeSettings
from omnistage.store.uris import uri_path

T = TypeVar("T")


class Judgements:
    """Kept answers, in memory and in a folder or bucket.

    Args:
        place: Folder, ``file://`` or ``s3://`` URI; empty for memory alone.
    """

    def __init__(self, place: str = "") -> None:
        self.place = place.rstrip("/")
        self.known: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        """Return the answer under a key, or None."""
        if key not in self.known and self.place:
            with contextlib.suppress(OSError, ValueError, TransientError, DamagedError):
                data = self._read(f"{key[:2]}/{key}.json")
                if data is not None:
                    self.known[key] = orjson.loads(data)
        return self.known.get(key)

    def put(self, key: str, answer: Any) -> None:
        """Keep an answer, which is not None."""
        self.known[key] = answer
        if self.place:
            with contextlib.suppress(OSError, TransientError, DamagedError):
                self._write(f"{key[:2]}/{key}.json", orjson.dumps(answer))

    def _read(self, name: str) -> bytes | None:
        if self.place.startswith("s3://"):
            from omnistage.store import objects  # boto3 takes half a second to import

            return objects.read(f"{self.place}/{name}")
        path = Path(uri_path(self.place)) / name
        return path.read_bytes() if path.is_file() else None

    def _write(self, name: str, data: bytes) -> None:
        if self.place.startswith("s3://"):
            from omnistage.store import objects

            objects.write(f"{self.place}/{name}", data)
        else:
            write_atomic(Path(uri_path(self.place)) / name, data)


class Budget:
    """Counts the requests of this process."""

    def __init__(self) -> None:
        self.spent = 0
        self._lock = threading.Lock()

    def spend(self, limit: int | None) -> None:
        """Count one request.

        Raises:
            InputError: If the limit is used up.
        """
        with self._lock:
            if limit is not None and self.spent >= limit:
                raise InputError(
                    f"the judge's budget of {limit:,} requests is used up; raise "
                    "grpo.judge.budget. What was judged is kept"
                )
            self.spent += 1


_open: dict[str, Judgements] = {}
BUDGET = Budget()


def kept_judgements() -> Judgements:
    """Return those of the place that the environment names."""
    place = os.environ.get(CACHE_VARIABLE, "")
    return _open.setdefault(place, Judgements(place))


def ask_all(
    questions: Sequence[T],
    identity: Callable[[T], Any],
    ask: Callable[[list[T]], list[Any]],
    settings: JudgeSettings,
    at_once: int = 1,
) -> list[Any]:
    """Return the answer to each question, the kept one where there is one.

    Equal questions are asked once, up to ``settings.concurrency`` requests at a time. What was
    answered before one fails is kept.

    Args:
        questions: What is asked.
        identity: JSON value that decides the answer: the model and all that it is shown.
        ask: Makes one request; returns a JSON value a question, None for one not to be kept.
        settings: Concurrency and budget.
        at_once: Questions of one request.

    Raises:
        InputError: If the budget is used up, or as ``ask`` does.
        TransientError: As ``ask`` does.
    """
    kept = kept_judgements()
    keys = [
        hashlib.sha256(json.dumps(identity(q), sort_keys=True).encode()).hexdigest()
        for q in questions
    ]
    of_key = dict(zip(keys, questions, strict=True))

    def request(batch: list[str]) -> list[Any]:
        BUDGET.spend(settings.budget)
        answers = ask([of_key[key] for key in batch])
        for key, answer in zip(batch, answers, strict=True):
            if answer is not None:
                kept.put(key, answer)
        return answers

    with ThreadPoolExecutor(settings.concurrency) as pool:
        answers = dict(zip(of_key, pool.map(kept.get, of_key), strict=True))
        missing = [key for key, answer in answers.items() if answer is None]
        batches = [missing[i : i + at_once] for i in range(0, len(missing), at_once)]
        try:
            for batch, found in zip(batches, pool.map(request, batches), strict=True):
                answers.update(zip(batch, found, strict=True))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [answers[key] for key in keys]
