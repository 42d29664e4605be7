"""Having a served model answer: an OpenAI-compatible endpoint, asked for every prompt of records.

The answers are a file of predictions, which ``omnistage eval --predictions`` scores beside those of
other models. Beside it ``<file>.answers`` keeps each answer as it comes, under a digest of its
prompt: what was answered is not asked again, after a kill or with other records.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from components.eval.generate import answer_all, answered
from components.eval.grading import ORDERS
from components.eval.records import TestRecord, prompts_of, read_test_records
from components.eval.variants.rotations import rotated_id, rotated_prompts, rotations_of
from components.eval.variants.samples import sampled_answers, sampled_prompts
from omnistage.errors import InputError, OmnistageError
from omnistage.files import locked, write_jsonl
from omnistage.records.plain_text import split_tags
from omnistage.records.record import MEDIA, TAGS
from omnistage.rewards.served.client import JudgeSettings, post_json, utf8
from omnistage.rewards.served.parts import media_part

_KINDS = {tag.strip("<>"): kind for kind, tag in TAGS.items()}
_OF_THE_RUN = ("HTTP 401", "HTTP 403", "HTTP 404", "is not an address")
"""Refusals that no record is to blame for: key, model or address are wrong."""


@dataclass(frozen=True)
class Endpoint:
    """A served model.

    Attributes:
        url: Base address, such as ``http://host:8000/v1``.
        model: Name of the model it serves.
        api_key: Sent as a bearer token if not empty.
        max_tokens: Most tokens of an answer.
        settings: Concurrency, tries, time-out and waits.
    """

    url: str
    model: str
    api_key: str = field(default="", repr=False)
    max_tokens: int = 2048
    settings: JudgeSettings = field(default_factory=JudgeSettings)

    def answer(self, prompt: Mapping[str, Any]) -> str:
        """Return the answer to a prompt with ``messages`` and absolute media paths.

        It is the greedy one, or a sample where the prompt has ``sampling``.

        Raises:
            InputError: If the endpoint refuses, or answers something else than a chat completion.
            TransientError: If it does not answer.
            OSError: If a medium cannot be read.
        """
        body = {
            "model": self.model,
            "messages": _messages(prompt),
            "max_tokens": self.max_tokens,
            **_decoding(prompt),
        }
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else None
        address = f"{self.url.rstrip('/')}/chat/completions"
        answer = post_json(address, body, headers=headers, settings=self.settings)
        try:
            content = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            content = None
        if not isinstance(content, str):
            raise InputError(f"{self.url} answered no chat completion: {str(answer)[:120]!r}")
        return content


@dataclass(frozen=True)
class Variants:
    """What is asked beside the records as they are, as the settings of an evaluation say it.

    Attributes:
        samples: Sampled answers to each record.
        temperature: Of the samples.
        top_p: Sample only of the most likely tokens that have this probability together.
        seed: Of all samples; each gets one of its own.
        rotate_options: Whether records of ``choice`` are asked in every rotation of their options.
    """

    samples: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 42
    rotate_options: bool = False


def ask_endpoint(
    endpoint: Endpoint,
    records: Path,
    root: Path,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    variants: Variants = Variants(),
) -> int:
    """Ask for every prompt of the records and write the predictions; return how many failed.

    A record whose medium cannot be read, or that the endpoint refuses, gets its error; one that the
    endpoint does not answer in all tries ends the run, which goes on when it is started again.

    Args:
        endpoint: Whom to ask.
        records: Canonical records.
        root: Folder that their media paths are relative to.
        out: File of predictions to write.
        progress: Called with the number of answers that are there, and of all.
        variants: What else is asked; its rows have the number of the ``sample`` or ``rotation``.

    Raises:
        InputError: If key, model or address are wrong, or no record can be asked.
        TransientError: If the endpoint does not answer.
    """
    tested = read_test_records(records, root)
    prompts = _prompts(tested, variants)
    digests = {p["id"]: _digest(p, root, endpoint) for p in prompts}
    distinct = {digests[p["id"]]: {**p, "id": digests[p["id"]]} for p in prompts}
    folder = out.with_name(f"{out.name}.answers")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", "omnistage ask"), ThreadPoolExecutor(_most(endpoint)) as pool:
        done = answered(folder)
        left = [p for name, p in distinct.items() if name not in done]

        def ask(batch: Sequence[Mapping[str, Any]]) -> list[str | Exception]:
            said = list(pool.map(lambda p: _answer(endpoint, p), batch))
            progress(len(distinct) - len(left) + len(batch), len(distinct))
            return said

        try:
            answer_all(left, ask, folder / "answers.jsonl", _most(endpoint))
        except _Ended as e:
            raise e.cause from e
        found = answered(folder)
    answers = {i: found[digest] for i, digest in digests.items()}
    rows = [row for record in tested for row in _predictions(record, answers, variants)]
    write_jsonl(out, rows)
    return sum(any(row[o]["error"] for o in ORDERS if o in row) for row in rows)


def _most(endpoint: Endpoint) -> int:
    return endpoint.settings.concurrency


def _answer(endpoint: Endpoint, prompt: Mapping[str, Any]) -> str | Exception:
    """Answer a prompt, or return what is that record's own fault."""
    try:
        return endpoint.answer(prompt)
    except InputError as e:
        if any(word in str(e) for word in _OF_THE_RUN):
            raise _Ended(e) from e
        return e
    except OmnistageError as e:
        raise _Ended(e) from e
    except OSError as e:
        return e


class _Ended(BaseException):
    """Ends the asking; no batch is tried one by one after it."""

    def __init__(self, cause: OmnistageError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _prompts(records: Sequence[TestRecord], variants: Variants) -> list[dict[str, Any]]:
    prompts, v = prompts_of(records), variants
    sampled = sampled_prompts(prompts, v.samples, v.temperature, v.top_p, v.seed)
    rotated = rotated_prompts(records, prompts) if v.rotate_options else []
    return [*prompts, *sampled, *rotated]


def _predictions(
    record: TestRecord, answers: Mapping[str, Mapping[str, Any]], variants: Variants
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a record: the answer, each sample and each rotation."""
    about = {"id": record.id, "task": record.task.name, "gold": record.gold}
    if record.error is not None:
        yield {**about, "first": {"text": "", "error": record.error}}
        return
    yield about | _told(record, answers)
    for n in range(1, variants.samples + 1):
        yield {**about, "sample": n, **_told(record, sampled_answers(n, [record], answers))}
    for n in range(1, rotations_of(record) if variants.rotate_options else 0):
        yield {**about, "rotation": n, "first": _said(answers[rotated_id(n, record.id)])}


def _told(record: TestRecord, answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return dict(zip(ORDERS, (_said(answers[i]) for i in record.prompt_ids), strict=False))


def _said(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"text": answer.get("text", ""), "error": answer.get("error")}


def _decoding(prompt: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a prompt is decoded; with one seed all samples of it would be the same."""
    how = prompt.get("sampling")
    if not how:
        return {"temperature": 0}
    seed = how["seed"] + how["number"]
    return {"temperature": how["temperature"], "top_p": how["top_p"], "seed": seed}


def _messages(prompt: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the messages with each medium as a part where its tag stands."""
    left = {kind: iter(prompt.get(kind, ())) for kind in MEDIA}
    messages = []
    for message in prompt["messages"]:
        if message["role"] == "assistant":
            messages.append({"role": "assistant", "content": utf8(message["content"])})
            continue
        parts: list[dict[str, Any]] = []
        for text, tag in split_tags(message["content"]):
            if tag is None:
                parts.append({"type": "text", "text": utf8(text)})
            else:
                kind = _KINDS[tag]
                parts.append(media_part(kind, Path(next(left[kind]))))
        only_text = all(part["type"] == "text" for part in parts)
        content = "".join(part["text"] for part in parts) if only_text else parts
        messages.append({"role": message["role"], "content": content})
    return messages


def _digest(prompt: Mapping[str, Any], root: Path, endpoint: Endpoint) -> str:
    media = {k: [str(Path(p).relative_to(root)) for p in prompt.get(k, ())] for k in MEDIA}
    asked = [endpoint.model, endpoint.max_tokens, prompt["messages"], media]
    asked += [prompt["sampling"]] if "sampling" in prompt else []
    return hashlib.sha256(orjson.dumps(asked)).hexdigest()
