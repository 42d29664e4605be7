"""Rows converted by a template become what the general path makes of them, byte for byte."""

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.rewrite_paths.config import Records
from components.rewrite_paths.convert.chunk import ChunkWork
from components.rewrite_paths.convert.fast_path import FastPathRows, Templates
from components.rewrite_paths.convert.row import ConversionState, RecordFilters, RowConverter
from components.rewrite_paths.convert.tally import OUTPUTS
from components.rewrite_paths.draft import Form
from components.rewrite_paths.media.finder import MediaFinder
from components.rewrite_paths.media.index import MemberIndex
from components.rewrite_paths.media.path_rules import PathRules
from components.rewrite_paths.sources.files import Source
from components.rewrite_paths.sources.lines import Lines, read_lines
from tests.components.rewrite_paths.formats.test_formats import INSTRUCTIONS, ROWS
from tests.components.rewrite_paths.rewrite_kit import SOUND, judge_row, member, verdict

INDEX = MemberIndex(
    [
        member("a/images/1.png"),
        member("a/images/2.png"),
        member('a/images/odd "name".png'),
        member("a/images/é.png"),
        member("a/images/two  spaces.png"),
        member("a/images/my file: 1.png"),
        member("a/images/sound.png", SOUND),
        member("b/2.png"),
        member("p/7.png"),
        member("q/p/7.png"),
        member("a/audio files/1.wav"),
    ]
)
FILTERS = RecordFilters(False, (0, float("inf")), (0, float("inf")), False, "none")


def work(
    split: Form = "rl",
    templates: bool = True,
    filters: RecordFilters = FILTERS,
    in_test: tuple[int, ...] = (),
) -> ChunkWork:
    finder = MediaFinder(INDEX, PathRules([]), keep_paths=False, sound_in_clip=False)
    in_tests = bytearray(number in in_test for number in range(len(INDEX)))
    state = ConversionState(
        INDEX,
        finder,
        in_tests,
        bytearray(len(INDEX)),
        {name: bytearray(len(INDEX)) for name in OUTPUTS},
    )
    source = Source(split, Path("x"), "x.jsonl", Records(files=["x"]), "x", None, 0)
    worker = RowConverter(source, state, filters, True)
    known = Templates(worker)
    known.usable &= templates
    return ChunkWork(worker, known, True)


def chunk(lines: list[bytes]) -> Lines:
    text = b"\n".join(lines) + b"\n"
    return read_lines(text, np.empty(len(text), dtype=bool))


def outcome(
    lines: list[bytes], split: Form, templates: bool, filters: RecordFilters = FILTERS
) -> Any:
    done = work(split, templates, filters)
    done.convert(chunk(lines), 0, None)
    report = done.report()
    files = {name: b"".join(parts) for name, parts in done.parts.items()}
    rows = {split: (r.sizes.tolist(), r.labels.tolist()) for split, r in report.rows.items()}
    tally = report.tally
    histograms = {k: v.tolist() for k, v in (tally.characters | tally.seconds).items()}
    lengths = {split: kept.characters for split, kept in done.kept.items()}
    return (
        files,
        lengths,
        tally.kept,
        tally.rejected,
        tally.left_out,
        tally.examples,
        histograms,
        rows,
    )


PIECES = [*ROWS, '"', "\\", "<image>", " file: ", "  \n", "\n", "é", "\u2028", "A", "</think>", "/"]
TEXT = st.lists(st.sampled_from([*PIECES, *string.ascii_letters]), max_size=8).map("".join)
PATHS = st.sampled_from(
    [
        "/x/a/images/1.png",
        "D:\\y\\a\\images\\2.png",
        "images/1.png",
        "2.png",
        '/x/a/images/odd "name".png',
        "/x/a/images/é.png",
        "/x//a/images/1.png",
        "missing.png",
        "/x/a/audio files/1.wav",
    ]
)


@st.composite
def omnicritic_rows(draw: st.DrawFn) -> bytes:
    """A row of either shape, most of them plain, some not."""
    path, text, thought = draw(PATHS), draw(TEXT), draw(TEXT)
    a, b = draw(st.sampled_from([(8, 3), (2, 9), (5, 5), (0, 10), (3, 11)]))
    better = draw(st.sampled_from(["equal" if a == b else "A" if a > b else "B", "A"]))
    field = "audios" if path.endswith("wav") else "images"
    value = verdict(better, a, b, reasoning=f"<think>{thought}</think>")
    answer = json.dumps(value, ensure_ascii=draw(st.booleans()))
    tag = draw(st.sampled_from(["", "", f"<{field[:-1]}>"]))
    shown = draw(st.sampled_from([path, path, path, "2.png"]))
    prompt = f"{tag}{field[:-1].capitalize()} file: {shown}  \nQ: {text}"
    shape = draw(st.sampled_from(["old", "new", "sft", "user", "both", "columns"]))
    system = {"role": "system", "content": draw(st.sampled_from(["Judge.", "Be fair."]))}
    user, said = {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}
    whole = {"role": "user", "content": f"{INSTRUCTIONS}### Context\n{prompt}"}
    row: dict[str, Any] = {
        "old": {"input": whole["content"], "output": answer, field[:-1]: path},
        "new": {"messages": [system, user], field: [path], "solution": answer},
        "sft": {"messages": [system, user, said], field: [path]},
        "user": {"messages": [whole, said], field: path},
        "both": {"messages": [system, user, said], field: [path], "solution": value},
        "columns": {"messages": [system, user], field: [path], "solution": answer, "better": "A"},
    }[shape]
    return json.dumps(row, ensure_ascii=draw(st.booleans())).encode()


SPECIAL = [
    "",
    "<image>",
    "<b>",
    "Audio file: x.wav  ",
    "some file: x",
    '"',
    "\\",
    '\\"',
    "\\n",
    "a\nb\n",
    "\t",
    "é \u2028 \U0001f600",
    "}], ",
    '"}], "images": ["',
    "  \n",
]
SHAPES = ["old", "new", "user", "sft"]


def shaped(shape: str, path: str, text: str, thought: str, **changes: Any) -> dict[str, Any]:
    """Return a row of OmniCritic in one of its shapes."""
    field = "audios" if path.endswith("wav") else "images"
    shown = changes.pop("shown", path)
    value = verdict(reasoning=f"<think>{thought}</think>") | changes
    answer = json.dumps(value, ensure_ascii=False)
    prompt = f"{field[:-1].capitalize()} file: {shown}  \nQ: {text}"
    system = {"role": "system", "content": "Judge."}
    whole = f"{INSTRUCTIONS}### Context\n{prompt}"
    said = {"role": "assistant", "content": answer}
    user = {"role": "user", "content": prompt}
    if shape == "old":
        return {"input": whole, "output": answer, field[:-1]: path}
    if shape == "user":
        return {"messages": [{"role": "user", "content": whole}, said], field: path}
    if shape == "sft":
        return {"messages": [system, user, said], field: [path]}
    return {"messages": [system, user], field: [path], "solution": answer}


def edge_rows(shape: str) -> list[bytes]:
    """Return a plain row and rows that differ from it in one way each."""
    plain = "/x/a/images/1.png"
    rows = [shaped(shape, plain, text, "good") for text in ("plain", *SPECIAL)]
    rows += [shaped(shape, plain, "plain", thought) for thought in SPECIAL]
    paths = ['/x/a/images/odd "name".png', "/x/a/images/é.png", "/x/a/images/none.png"]
    paths += ["D:\\a\\images\\2.png", "/x//a/images/2.png", "/x/a/images/sound.png"]
    paths += ["/x/a/images/two  spaces.png", "/x/a/images/my file: 1.png", " /x/a/images/2.png"]
    paths += ["p/7.png", "q/p/7.png", "/x/q/p/7.png", "/x/p/7.png"]
    rows += [shaped(shape, path, "plain", "good") for path in paths]
    rows += [shaped(shape, plain, "plain", "good", shown=s) for s in ("/x/a/images/2.png", "x y")]
    rows += [shaped(shape, plain, "plain", "good", score_A=a) for a in (0, 3, 10, 11, 8.0)]
    rows += [shaped(shape, plain, "plain", "good", final_verdict="<answer>[[B]]</answer>")]
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    lines += [json.dumps(row).encode() for row in rows]
    first = lines[0]
    lines += [
        first.replace(b"Q: plain", b"Q: " + t) for t in (b'\\\\n" x', b"\\x", b"\\/", b'a" b')
    ]
    return [*lines, first[:-1], first + b" ", first[:-1] + b', "x": 1}', first + b"}"]


@pytest.mark.parametrize("split", ["sft", "rl", "test"])
@pytest.mark.parametrize("shape", SHAPES)
def test_template_takes_no_row_that_is_not_plain(split: Form, shape: str) -> None:
    lines = edge_rows(shape)

    fast = outcome(lines, split, templates=True)

    assert fast == outcome(lines, split, templates=False)
    assert len(fast[0][split].splitlines()) > 30


@pytest.mark.parametrize("broken", [b"\x00", b"\t", b"\x1f", b"\xff", b"\xed\xa0\x80"])
def test_template_takes_no_row_with_bytes_that_json_must_not_have(broken: bytes) -> None:
    plain, other = edge_rows("new")[:2]
    lines = [plain, other, plain.replace(b"Q: plain", b"Q: " + broken), plain]

    fast = outcome(lines, "rl", templates=True)

    assert fast == outcome(lines, "rl", templates=False)
    assert b"not_json" in fast[0]["rejected"]


@pytest.mark.parametrize("bound", [110, 118, 119, 120, 300, 305])
def test_template_counts_characters_as_the_general_path_does(bound: int) -> None:
    filters = RecordFilters(False, (0, bound), (0, float("inf")), True, "none")
    for split in ("sft", "rl"):
        lines = edge_rows("new")

        assert outcome(lines, split, True, filters) == outcome(lines, split, False, filters)


def test_template_refuses_what_a_test_record_shows() -> None:
    done = work("rl", in_test=(0,))
    free, shown = (
        json.dumps(shaped("new", f"/x/a/images/{n}.png", "plain", "good")).encode() for n in (2, 1)
    )

    done.convert(chunk([free, free, shown]), 0, None)

    assert done.templates.known
    assert done.tally.rejected == {("rl", "shares_media_with_test"): 1}


@pytest.mark.parametrize(("split", "marks"), [("test", "test_marks"), ("sft", "sft_marks")])
def test_template_marks_what_its_records_show(split: Form, marks: str) -> None:
    lines = [
        json.dumps(shaped("new", f"/x/a/images/{n}.png", "plain", "good")).encode() for n in (1, 2)
    ]
    for templates in (True, False):
        done = work(split, templates)

        done.convert(chunk([lines[0], *lines]), 0, None)

        assert list(getattr(done.worker.state, marks)) == [1, 1] + [0] * (len(INDEX) - 2)


@pytest.mark.parametrize("split", ["sft", "rl", "test"])
@given(rows=st.lists(omnicritic_rows(), min_size=2, max_size=12), first=omnicritic_rows())
@settings(max_examples=40, deadline=None)
def test_template_gives_what_the_general_path_gives(
    split: Form, rows: list[bytes], first: bytes
) -> None:
    lines = [first, *rows, *rows]

    assert outcome(lines, split, templates=True) == outcome(lines, split, templates=False)


@pytest.mark.parametrize("shape", ["new", "old", "sft"])
def test_plain_rows_are_converted_by_a_template(shape: str) -> None:
    plain = [judge_row(f"/x/a/images/{n}.png") for n in (1, 2, 1)]
    for row in plain:
        if shape == "old":
            text = f"{INSTRUCTIONS}{row['messages'][1]['content']}"
            row |= {"input": text, "output": row.pop("solution"), "image": row.pop("images")[0]}
            row.pop("messages")
        elif shape == "sft":
            row["messages"].append({"role": "assistant", "content": row.pop("solution")})
    done = work("sft" if shape == "sft" else "rl")

    lines = [json.dumps(row).encode() for row in plain]

    done.convert(chunk(lines), 0, None)

    [template] = done.templates.known
    assert done.templates.convert(chunk(lines), 0, 1, FastPathRows()) == len(lines)
    assert lines[0].startswith(template.head)
