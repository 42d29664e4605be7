"""Addresses whose secret part comes from the environment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.download.config import HttpsFile
from components.download.sources.signed import signed_place
from omnistage.errors import InputError
from omnistage.recipe.errors import SIGNED_VARIABLE, secret_in_address
from tests.components.download.download_kit import content, download, https

PLAIN = "https://data.example/sets/a.tar"


@pytest.mark.parametrize(
    ("entries", "asked", "fetched"),
    [
        ("", PLAIN, PLAIN),
        (f"{PLAIN}?sig=x", PLAIN, f"{PLAIN}?sig=x"),
        (f"https://o.example/b?sig=y\n{PLAIN}?sig=x", PLAIN, f"{PLAIN}?sig=x"),
        (f"{PLAIN}?part=1&sig=x {PLAIN}?part=2&sig=y", f"{PLAIN}?part=2", f"{PLAIN}?part=2&sig=y"),
        (f"{PLAIN}?sig=x", f"{PLAIN}?part=1", f"{PLAIN}?part=1"),
        ("https://data.example/sets/?sig=x", f"{PLAIN}?part=1", f"{PLAIN}?part=1&sig=x"),
        ("https://data.example/set?sig=x", PLAIN, PLAIN),
        ("https://data.example.evil/sets/?sig=x", PLAIN, PLAIN),
        ("http://data.example/sets/?sig=x", PLAIN, PLAIN),
        ("https://data.example:8443/sets/?sig=x", PLAIN, PLAIN),
    ],
)
def test_an_address_gets_the_secret_of_its_own_place_and_no_other(
    entries: str, asked: str, fetched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIGNED_VARIABLE, entries)
    assert signed_place(asked).url == fetched


def test_user_and_password_go_into_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIGNED_VARIABLE, "https://me:p%40ss@data.example/")
    place = signed_place(PLAIN)
    assert place.url == PLAIN
    assert place.headers == {"authorization": "Basic bWU6cEBzcw=="}


@pytest.mark.parametrize(
    "entries", ["hunter2", "s3://b/k?sig=hunter2", "https:///hunter2", "https://[::hunter2"]
)
def test_what_is_no_address_is_said_without_repeating_it(
    entries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIGNED_VARIABLE, entries)
    with pytest.raises(InputError, match=SIGNED_VARIABLE) as e:
        signed_place(PLAIN)
    assert "hunter2" not in str(e.value)


@given(st.text())
def test_any_text_is_looked_at_for_secrets(text: str) -> None:
    found = secret_in_address(f"https://{text}")
    assert found is None or SIGNED_VARIABLE in found


@pytest.mark.parametrize("query", ["download=true", "id=1A2b3C", "part=1&version=2", "raw=1"])
def test_a_query_without_a_secret_stays_in_the_settings(query: str) -> None:
    assert HttpsFile(url=f"{PLAIN}?{query}").url.endswith(query)


def test_settings_refuse_a_secret_without_repeating_it() -> None:
    with pytest.raises(ValidationError) as e:
        HttpsFile(url=PLAIN, mirrors=[f"{PLAIN}?X-Amz-Signature=hunter2"])
    assert "take X-Amz-Signature out" in (said := e.value.errors()[0]["msg"])
    assert "hunter2" not in said


def test_a_signed_source_is_fetched_and_its_key_is_that_of_the_plain_one(
    tmp_path, served, monkeypatch
):
    data = b"bytes\n"
    served.served.files["/a.txt"] = data
    plain = https(served, "a.txt")
    first = download(tmp_path / "1", plain)
    monkeypatch.setenv(SIGNED_VARIABLE, f"{served.url}/a.txt?token=x-1")
    second = download(tmp_path / "2", plain)
    assert served.served.addresses[-1] == "/a.txt?token=x-1"
    assert first.manifest.key == second.manifest.key
    assert (content(second) / "files" / "a.txt").read_bytes() == data
