"""Arguments for ms-swift are checked against ms-swift's own classes before anything starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from components.grpo.config import GRPOSettings
from components.grpo.stage import grpo_arguments
from components.sft.config import SFTSettings
from omnistage.errors import InputError
from omnistage.files import read_json
from omnistage.store.manifest import Manifest
from omnistage.swift.arguments import check_arguments, command_line
from omnistage.swift.family import FAMILIES
from omnistage.swift.lineage import Lineage, Start
from omnistage.swift.media import MediaSettings, environment
from omnistage.swift.rows import TrainingRows
from omnistage.swift.schema import PATH, schema
from omnistage.swift.settings import split_batch
from omnistage.swift.training.train import common_arguments, refuse_hanging

OMNI = FAMILIES["qwen2_5_omni"]


def test_the_schema_is_that_of_the_installed_ms_swift() -> None:
    """Given ms-swift as pinned, when its argument classes are read again, they are the file."""
    assert read_json(PATH) == schema()


def test_an_unknown_argument_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"sft.x.learning_rat: .* did you mean 'learning_rate'"):
        check_arguments("sft", {"learning_rat": 1.0}, "sft.x")


def test_an_argument_of_grpo_is_none_of_sft() -> None:
    check_arguments("rlhf", {"num_generations": 4}, "grpo.x")
    with pytest.raises(InputError, match="num_generations"):
        check_arguments("sft", {"num_generations": 4}, "sft.x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lora_rank", "eight"),
        ("lora_rank", True),
        ("learning_rate", "fast"),
        ("vllm_mode", "somewhere"),
        ("use_vllm", 1),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"grpo.x.{name}"):
        check_arguments("rlhf", {name: value}, "grpo.x")


@pytest.mark.parametrize("tuner", ["full", "lora"])
def test_what_sft_makes_of_its_settings_is_accepted(tuner: str) -> None:
    config = SFTSettings.model_validate({"tuner": tuner, "max_steps": 5})
    check_arguments("sft", common_arguments(config, OMNI, 1, "sft"), "sft")


@pytest.mark.parametrize("vllm", [None, {"sleep_level": 2}])
@pytest.mark.parametrize("tuner", ["full", "lora"])
def test_what_grpo_makes_of_its_settings_is_accepted(
    tuner: str, vllm: dict | None, tmp_path: Path
) -> None:
    config = GRPOSettings.model_validate({"tuner": tuner, "vllm": vllm})
    base = Manifest(
        kind="BaseModel", stage="s", key="k", digest=f"sha256:{'0' * 64}", uri="file:///x", files=[]
    )
    start = Start(Lineage(base, base), OMNI, tmp_path, tmp_path, tmp_path)
    own = grpo_arguments(config, start, tmp_path)
    check_arguments("rlhf", {**common_arguments(config, OMNI, 1, "grpo"), **own}, "grpo")
    assert own["reward_funcs"] == ["mm_format", "mm_content", "mm_rubric"]
    assert own["reward_weights"] == [0.4, 0.4, 0.2]


def test_command_line_words() -> None:
    words = command_line({"a": True, "b": [1, 2], "c": {"x": 1}, "d": None, "e": 1e-5})
    assert words == ["--a", "true", "--b", "1", "2", "--c", '{"x": 1}', "--e", "1e-05"]


@pytest.mark.parametrize(
    ("batch", "device", "processes", "expected"),
    [
        (48, 1, 4, (1, 12)),
        (16, 16, 1, (16, 1)),
        (16, 16, 2, (8, 1)),
        (16, 3, 2, (2, 4)),
        (7, 4, 1, (1, 7)),
    ],
)
def test_the_global_batch_is_kept_whatever_the_processes(
    batch: int, device: int, processes: int, expected: tuple[int, int]
) -> None:
    got = split_batch(batch, device, processes, "sft")
    assert got == expected
    assert got[0] * got[1] * processes == batch


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match=r"sft.batch_size: 10 does not divide by 4 processes"):
        split_batch(10, 1, 4, "sft")


def test_one_setting_decides_about_the_sound_of_clips() -> None:
    on = environment(MediaSettings(use_audio_in_video=True), 0, OMNI)
    off = environment(MediaSettings(use_audio_in_video=False), 8, OMNI)
    assert (on["USE_AUDIO_IN_VIDEO"], off["USE_AUDIO_IN_VIDEO"]) == ("True", "False")
    assert "OMP_NUM_THREADS" not in off


def test_an_unknown_reward_and_a_cut_group_are_refused() -> None:
    with pytest.raises(ValueError, match="no reward mm_contend"):
        GRPOSettings.model_validate({"reward_weights": {"mm_contend": 1.0}})
    with pytest.raises(ValueError, match="a group would be cut"):
        GRPOSettings.model_validate({"batch_size": 6, "num_generations": 4})


@pytest.mark.parametrize(("most", "least"), [(3136, 2986), (32_768, 31_207), (602_112, 100_352)])
def test_a_small_bound_on_frames_is_not_lifted_by_the_default_lower_one(
    most: int, least: int
) -> None:
    env = environment(MediaSettings(video_max_pixels=most), 0, OMNI)
    assert env["VIDEO_MAX_PIXELS"] == str(most)
    assert env["VIDEO_MIN_PIXELS"] == str(least)
    assert int(least * 1.05) <= most  # what qwen-omni-utils makes the upper bound at least


def test_sound_under_zero_3_is_refused_where_it_hangs() -> None:
    """A process without sound in its batch would not call the audio encoder of Qwen2.5-Omni."""
    heard = TrainingRows(
        Path("d"), Path("r"), Path("m"), {}, {"by_modality": {"audio": 5, "text": 9}}
    )
    silent = replace(heard, tokens={"by_modality": {"image": 5, "text": 9}})
    omni, omni3 = FAMILIES["qwen2_5_omni"], FAMILIES["qwen3_omni_moe"]
    zero3 = SFTSettings(zero_stage=3)
    with pytest.raises(InputError, match=r"sft.zero_stage: 3 hangs .* set it to 2"):
        refuse_hanging(zero3, omni, heard, 4, "sft")
    refuse_hanging(zero3, omni, silent, 4, "sft")
    refuse_hanging(zero3, omni3, heard, 4, "sft")
    refuse_hanging(SFTSettings(zero_stage=2), omni, heard, 4, "sft")
    refuse_hanging(zero3, omni, heard, 0, "sft")  # DeepSpeed is used on GPUs alone
