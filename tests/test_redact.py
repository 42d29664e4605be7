"""No secret in any text that leaves the process: URLs, environment, and what stages write."""

import contextlib
import doctest
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from omnistage import redact as module
from omnistage.errors import InputError, StageFailedError, TransientError
from omnistage.events import Events
from omnistage.redact import redact, redacted
from omnistage.rewards.served.client import JudgeSettings, post_json
from omnistage.runs.folder import new_run
from omnistage.runs.show import show
from omnistage.runs.supervise import supervise
from omnistage.settings import Settings
from omnistage.stage.contract import Context, Result, Stage
from omnistage.store.folder import FolderStore
from omnistage.task.program import main
from omnistage.task.run_record import RunRecord

CANARIES = {
    "OMNISTAGE_REWARD_URL": "http://judge:canary-reward-1@127.0.0.1:9/score?key=canary-reward-2",
    "HTTPS_PROXY": "http://me:canary-proxy%2B3@proxy:3128",
    "HF_TOKEN": "hf_canary4canary4",
    "AWS_ACCESS_KEY_ID": "AKIACANARY5",
    "AWS_SECRET_ACCESS_KEY": "canary/six+six",
    "AWS_SESSION_TOKEN": "canary-seven==",
    "OMNISTAGE_JUDGE_PASSWORD": "canary-eight",
}
SIGNED = (
    "https://cdn:canary-user-9@data.example/a.tar?X-Amz-Signature=canary-10&token=canary-11"
    "&part=canary-12"
)
TEXT = " ".join(
    [SIGNED, *CANARIES.values(), "canary-proxy+3", "Authorization: Bearer canary-13-abcdef"]
)


def leaks(data: str | bytes) -> list[str]:
    """Return what of the secrets is in some text."""
    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    return [word for word in text.replace("/", " ").split() if "canary" in word.lower()]


@pytest.fixture
def _canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_canaries")
def test_what_is_shown_holds_no_secret_and_still_says_where() -> None:
    assert leaks(redact(TEXT)) == []
    assert redact(SIGNED) == (
        "https://***@data.example/a.tar?X-Amz-Signature=***&token=***&part=***"
    )
    assert redact("http://judge:canary-reward-1@127.0.0.1:9/x refused") == (
        "http://***@127.0.0.1:9/x refused"
    )


def test_the_user_of_a_store_is_no_secret_so_that_addresses_stay_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "omnistage")
    assert redact("s3://omnistage/sft/0123") == "s3://omnistage/sft/0123"


def test_plain_text_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT_KEY", "a")
    for text in (
        "sft: 120/420 steps, loss 0.31",
        "/data/a?b=c/d@e.jsonl:7: not JSON",
        "s3://bucket/prefix/sft/0123",
        "https://huggingface.co/Qwen/Qwen2.5-Omni-3B",
        "is x = y? z=1",
        "mail a@b.example",
    ):
        assert redact(text) == text


def test_the_example_in_the_docstring_runs() -> None:
    assert doctest.testmod(module).failed == 0


@given(st.text())
def test_any_text_can_be_redacted_twice(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(
    st.text(alphabet=st.characters(exclude_characters="\"'<>/?#", exclude_categories=["Z", "C"]))
)
def test_no_password_survives(password: str) -> None:
    shown = redact(f"see ftp://me:{password}#@host/x and https://me:{password}@host/y")
    assert shown.endswith("https://***@host/y")


def test_the_shape_of_a_json_value_stays() -> None:
    value = {"a": [1, None, (True, "https://h/?t=canary")], "b": {"c": 2.5}}
    assert redacted(value) == {"a": [1, None, [True, "https://h/?t=***"]], "b": {"c": 2.5}}


# --- every border


class Leaky(Settings):
    """Settings of a stage that tells all it knows."""

    url: str = SIGNED
    fail: str = ""


def _tell(context: Context[Leaky]) -> Result:
    context.events.message(f"fetching {TEXT}")
    context.events.warn(f"slow: {TEXT}")
    context.events.progress(1, 1, "files", source=context.config.url)
    failures = {
        "input": InputError(TEXT),
        "transient": TransientError(TEXT),
        "failed": StageFailedError(f"the log ends:\n{TEXT}"),
        "bug": RuntimeError(TEXT),
        "os": OSError(28, TEXT, SIGNED),
    }
    if context.config.fail:
        raise failures[context.config.fail]
    (context.out / "file").write_text("bytes")
    return Result(counts={"files": 1}, metadata={"source": context.config.url})


LEAKY = Stage("download", "DatasetTarball", 1, Leaky, {}, _tell)


def _written(folder: Path) -> bytes:
    return b" ".join(
        p.name.encode() + b" " + p.read_bytes() for p in folder.rglob("*") if p.is_file()
    )


@pytest.mark.usefixtures("_canaries")
@pytest.mark.parametrize("fail", ["", "input", "transient", "failed", "bug", "os"])
def test_a_stage_writes_and_prints_no_secret_however_it_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], fail: str
) -> None:
    home = tmp_path / "home"
    spec = {
        "config": {"fail": fail},
        "store": (home / "store").as_uri(),
        "events": str(home / "events.jsonl"),
        "manifest": str(home / "manifest.json"),
    }
    home.mkdir()
    code = main(LEAKY, ["--spec", json.dumps(spec)])
    assert (code == 0) == (not fail)
    said = capfd.readouterr()
    assert "data.example" in said.err
    assert leaks(said.out + said.err) == []
    assert leaks(_written(home)) == []
    assert b"data.example" in _written(home)


@pytest.mark.usefixtures("_canaries")
def test_the_record_of_a_run_holds_no_secret(tmp_path: Path) -> None:
    RunRecord(tmp_path.as_uri(), "run-1").note("sft", "failed", message=TEXT, wrong=[{"x": TEXT}])
    assert b"data.example" in _written(tmp_path)
    assert leaks(_written(tmp_path)) == []


@pytest.mark.usefixtures("_canaries")
def test_a_store_keeps_no_secret_that_a_stage_was_given(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    out = store.work_folder("sft", "0" * 32) / "out"
    out.mkdir()
    store.commit(out, "SFTCheckpoint", "sft", "0" * 32, produced_by={"config": {"url": SIGNED}})
    assert leaks(_written(tmp_path)) == []


@contextlib.contextmanager
def _output() -> Iterator[io.StringIO]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        yield output


@pytest.mark.usefixtures("_canaries")
def test_the_folder_of_a_run_holds_no_secret_and_its_child_gets_them(tmp_path: Path) -> None:
    request = {"recipe": {"name": "r", "data": {"url": SIGNED}}, "store": "s"}
    home, got = tmp_path / "home", tmp_path / "got"
    code = (
        f"import sys, pathlib; pathlib.Path({str(got)!r}).write_text(sys.stdin.read()); sys.exit(2)"
    )
    with _output() as output:
        folder = new_run(home, "r", request, ["download"])
        supervise(folder, ["download"], [sys.executable, "-c", code], Console(file=output), request)
        show(home, None, as_json=True, console=Console(file=output))
    assert orjson.loads(got.read_text()) == request
    assert leaks(_written(home)) == []
    assert leaks(output.getvalue()) == []


@pytest.mark.usefixtures("_canaries")
def test_a_judge_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(TransientError) as failed:
        post_json(
            os.environ["OMNISTAGE_REWARD_URL"], {}, settings=JudgeSettings(tries=1, timeout=1)
        )
    assert leaks(str(failed.value)) == []
    assert "127.0.0.1:9/score" in str(failed.value)


def test_events_of_a_url_are_shown_everywhere_alike(tmp_path: Path) -> None:
    events = Events("download", tmp_path / "events", echo=False)
    events.emit("finished", deep={"list": [SIGNED]})
    assert leaks((tmp_path / "events").read_bytes()) == []
