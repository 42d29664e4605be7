"""Whether a clip has a sound track is told by the data set's index, and by its header otherwise."""

from pathlib import Path

import pytest

from omnistage.files import write_jsonl
from omnistage.swift.media import facts_environment, has_sound
from tests.swift.template_kit import write_media


def test_a_clip_of_the_records_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = {"loud.mp4": True, "mute.mp4": False}
    rows = [{"path": f"v/{name}", "media": {"has_audio": has}} for name, has in clips.items()]
    write_jsonl(tmp_path / "sft.media.jsonl", [])
    write_jsonl(tmp_path / "rl.media.jsonl", rows)
    write_jsonl(tmp_path / "test.media.jsonl", [{"path": "v/bad.mp4", "media": None}])
    for name, value in facts_environment(tmp_path, tmp_path / "root").items():
        monkeypatch.setenv(name, value)

    assert has_sound(str(tmp_path / "root/v/loud.mp4"))
    assert not has_sound(str(tmp_path / "root/v/mute.mp4"))
    with pytest.raises(FileNotFoundError):  # nothing is known of it
        has_sound(str(tmp_path / "root/v/bad.mp4"))


def test_a_clip_of_no_records_is_read(tmp_path: Path) -> None:
    write_media(tmp_path)

    assert has_sound(str(tmp_path / "loud.mp4"))
    assert not has_sound(str(tmp_path / "mute.mp4"))
