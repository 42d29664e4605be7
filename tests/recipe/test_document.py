"""A recipe is read with the place of every value; what is wrong is said with that place."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistage.errors import InputError
from omnistage.recipe.document import (
    Document,
    find_recipe,
    parse_recipe,
    read_recipe,
    shipped_recipes,
    with_overrides,
)

BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 9))


def parse(text: str) -> Document:
    return parse_recipe(text, "my.yaml")


def refused(text: str) -> str:
    with pytest.raises(InputError) as e:
        parse(text)
    assert e.value.exit_code == 2
    return str(e.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-5", 1e-5),
        ("5.0e-4", 5e-4),
        (".5", 0.5),
        ("-3", -3),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("~", None),
        ("", None),
        ('"7"', "7"),
        ("1.2.3", "1.2.3"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(written: str, value: object) -> None:
    document = parse(f"a: {written}")
    assert document.values == {"a": value}
    assert type(document.values["a"]) is type(value)


def test_every_value_keeps_its_line() -> None:
    document = parse("name: x\nsft:\n  # why\n  rate: 1\n  list:\n    - url: a\n    - url: b\n")
    assert document.say(("sft", "rate"), "odd") == "my.yaml:4: sft.rate: odd"
    assert document.say(("sft", "list", 1, "url"), "?") == "my.yaml:7: sft.list.1.url: ?"


def test_what_is_not_there_has_the_place_of_its_section() -> None:
    document = parse("name: x\nsft:\n  rate: 1\n")
    assert document.say(("sft", "gone"), "?") == "my.yaml:2: sft.gone: ?"
    assert document.say(("grpo",), "?") == "my.yaml: grpo: ?"


def test_what_an_alias_brings_keeps_the_line_where_it_is_written() -> None:
    document = parse("a:\n  media: &m\n    fps: 2\nb:\n  media: *m\n")
    assert document.values["b"] == {"media": {"fps": 2}}
    assert document.say(("b", "media", "fps"), "?") == "my.yaml:3: b.media.fps: ?"
    changed = with_overrides(document, ["a.media.fps=5"])
    assert (changed.values["a"]["media"]["fps"], changed.values["b"]["media"]["fps"]) == (5, 2)


def test_a_key_given_twice_is_refused_with_both_lines() -> None:
    assert refused("sft:\n  rate: 1\n  size: 2\n  rate: 3\n") == (
        "my.yaml:4: sft.rate is given twice; first at my.yaml:2"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2\nb: 3\n", "my.yaml:2: not valid YAML"),
        ("a: 1\n b: 2\n", "my.yaml:2: not valid YAML"),
        ("a: 1\nb: *x\n", "my.yaml:2: not valid YAML: found undefined alias"),
        ("a: &x [*x]\n", "my.yaml: nested too deeply"),
        (BOMB, "my.yaml:1: more than 10000 values"),
        ("a: !!python/object:os.system 1\n", "my.yaml:1: tag"),
        ("a: 1\nb: !!int twelve\n", "my.yaml:2: 'twelve'"),
        ("a: 1\n? [1, 2]\n: 3\n", "my.yaml:2: a key must be a plain word"),
        ("a: 1\n---\nb: 2\n", "my.yaml:2: not valid YAML"),
        ("- 1\n", "my.yaml: a recipe is a mapping"),
        ("", "my.yaml: a recipe is a mapping"),
        ('a: 1\nb: "\\ud800 lone"\n', "my.yaml:2: "),
        ("a: \x00", "my.yaml: not valid YAML"),
        ("a: " + "[" * 5000, "my.yaml: nested too deeply"),
    ],
)
def test_broken_yaml_is_refused_with_its_line(text: str, said: str) -> None:
    assert refused(text).startswith(said)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!|>#'\"?,%@~ \n\t0.1\x00é", max_size=40))
def test_no_text_crashes_the_parser(text: str) -> None:
    try:
        values = parse(text).values
    except InputError as e:
        values = {"said": str(e)}
    assert isinstance(values, dict)
    assert str(values.get("said", "my.yaml")).startswith("my.yaml")


def test_set_puts_a_typed_value_over_the_recipe() -> None:
    document = parse("sft:\n  rate: 1\n  size: 2\n")
    changed = with_overrides(document, ["sft.rate=1e-4"])
    assert changed.values == {"sft": {"rate": 1e-4, "size": 2}}
    assert changed.say(("sft", "rate"), "?") == "--set sft.rate: ?"
    assert changed.say(("sft", "size"), "?") == "my.yaml:3: sft.size: ?"
    assert document.values == {"sft": {"rate": 1, "size": 2}}, "the document itself is not changed"


def test_set_makes_sections_reads_yaml_and_reaches_into_lists() -> None:
    document = parse("data:\n  sources:\n    - url: a\n    - url: b\n")
    overrides = ["grpo.weights={a: .5, b: [1, x]}", "data.sources.1.url=c=d", "note="]
    document = with_overrides(document, overrides)
    assert document.values == {
        "data": {"sources": [{"url": "a"}, {"url": "c=d"}]},
        "grpo": {"weights": {"a": 0.5, "b": [1, "x"]}},
        "note": None,
    }
    assert document.say(("grpo", "weights", "b", 0), "?") == "--set grpo.weights.b.0: ?"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sft.rate", "--set sft.rate: expected section.setting=value"),
        ("=1", "--set : expected"),
        ("sft..rate=1", "--set sft..rate: expected"),
        ("sft.rate=[1", "--set sft.rate: not valid YAML"),
        ("sft.rate.x=1", "--set sft.rate.x: sft.rate is a single value"),
        ("list.2=1", "--set list.2: list is a list of 2"),
        ("list.x=1", "--set list.x: list is a list of 2"),
    ],
)
def test_a_wrong_set_is_refused(override: str, said: str) -> None:
    with pytest.raises(InputError) as e:
        with_overrides(parse("sft:\n  rate: 1\nlist: [1, 2]\n"), [override])
    assert str(e.value).startswith(said)


def test_a_recipe_is_found_by_path_and_its_messages_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text("a: 1\na: 2\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^mine\.yaml:2: a is given twice"):
        read_recipe(find_recipe("mine.yaml").absolute())


def test_a_missing_file_and_an_unknown_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"nowhere/x\.yaml: no such recipe file"):
        find_recipe("nowhere/x.yaml")
    with pytest.raises(InputError, match="no recipe 'qwertz'; there are: "):
        find_recipe("qwertz")


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: é".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.yaml: not UTF-8"):
        read_recipe(path)


def test_shipped_recipes_are_found_by_name() -> None:
    for name, path in shipped_recipes().items():
        assert find_recipe(name) == path
        assert read_recipe(path).values["name"] == name
