"""A GRPO run that cannot learn is stopped in its first steps; one that can is left alone."""

import json
import math
import random

import pytest

from components.grpo.watch.watch import LATE, MIN_GROUPS, ROLLOUT_KL, RunMonitor, WatchSettings

RANGES = {"MMFormat": (0.0, 1.0), "MMContent": (-1.0, 1.0), "PeopleFocus": (0.1, 1.0)}
GOOD = (
    '{"reasoning": "<think>The disc is red. On accuracy A is better than B.</think>", "score_A": 9,'
    ' "score_B": 2, "better": "A", "final_verdict": "<answer>[[A]]</answer>"}'
)
LOOP = "<contextsystemsystemsystem schönesystemsystemsystem"


def line(step, **figures):
    """A line of ms-swift's logging.jsonl, as GRPO writes it, of a healthy step."""
    row = {
        "loss": 0.01,
        "grad_norm": 0.8,
        "learning_rate": 1e-5,
        "completions/mean_length": 71.0,
        "completions/min_length": 60.0,
        "completions/max_length": 80.0,
        "completions/clipped_ratio": 0.1,
        "reward": 0.5,
        "reward_std": 0.2,
        "frac_reward_zero_std": 0.25,
        "rewards/MMFormat/mean": 0.9,
        "rewards/MMFormat/std": 0.1,
        "rewards/MMContent/mean": 0.2,
        "rewards/MMContent/std": 0.5,
        "kl": 0.001,
        "clip_ratio/region_mean": 0.0,
        "epoch": 0.1,
        "global_step/max_steps": f"{step}/200",
        "elapsed_time": "12s",
        "remaining_time": "3m",
        "train_speed(s/it)": 1.5,
    }
    renamed = {key.replace("__", "/"): value for key, value in figures.items()}
    return row | renamed


def no_spread(step, **figures):
    return line(step, reward_std=0.0, frac_reward_zero_std=1.0, grad_norm=0.0) | figures


def table(step, completions, prompts=4):
    """A line of completions.jsonl: one batch, a list a column."""
    count = len(completions)
    return {
        "step": [str(step)] * count,
        "prompt": [f"prompt {i * prompts // count}" for i in range(count)],
        "completion": completions,
        "MMFormat": [1.0] * count,
        "advantages": [0.0] * count,
        "solution": [GOOD] * count,
    }


def watch(**settings):
    return RunMonitor(WatchSettings(**settings), RANGES)


def first(watch, rows):
    """Feed lines until one is answered with a diagnosis; return it and the number of lines."""
    for number, row in enumerate(rows, 1):
        found = watch.step(row)
        if found:
            return found, number
    return None, None


# Garbled completions


def test_garbled_completions_stop_the_run_after_three_batches_and_one_is_shown():
    w = watch()

    assert w.completions(table(1, [LOOP] * 8)) is None
    assert w.completions(table(2, [LOOP] * 8)) is None
    found = w.completions(table(3, [LOOP] * 8))

    assert found is not None
    assert (found.sign, found.step) == ("garbled", 3)
    assert "8 of 8 completions cannot be read" in found.seen
    assert found.example is not None
    assert "systemsystem" in str(found)
    assert "use_audio_in_video" in str(found)


def test_a_long_example_is_cut_short():
    w = watch(garbled_patience=1)

    found = w.completions(table(1, ["system" * 500]))

    assert found is not None
    assert found.example is not None
    assert len(found.example) <= 201


def test_some_garbled_completions_among_good_ones_do_not_stop_a_run():
    w = watch()

    assert [w.completions(table(i, [LOOP] + [GOOD] * 7)) for i in range(20)] == [None] * 20


def test_one_good_batch_starts_the_count_of_garbled_ones_anew():
    w = watch()
    batches = [[LOOP] * 8, [LOOP] * 8, [GOOD] * 8, [LOOP] * 8, [LOOP] * 8]

    assert [w.completions(table(i, b)) for i, b in enumerate(batches)] == [None] * 5


def test_a_table_written_twice_for_one_step_counts_once():
    w = watch()

    assert [w.completions(table(5, [LOOP] * 8)) for _ in range(5)] == [None] * 5
    assert w.summarise()["completions"] == 8


# Constant reward


def test_groups_without_spread_stop_the_run_once_forty_groups_were_seen():
    w = watch()
    w.completions(table(1, [GOOD] * 16, prompts=4))

    found, lines = first(w, (no_spread(i, reward=0.1) for i in range(1, 100)))

    assert found is not None
    assert found.sign == "constant_reward"
    assert lines == MIN_GROUPS // 4 == 10
    assert "reward 0.1" in found.seen
    assert "num_generations" in found.todo


def test_with_one_prompt_a_step_more_steps_are_needed():
    w = watch()
    w.completions(table(1, [GOOD] * 4, prompts=1))

    _, lines = first(w, (no_spread(i) for i in range(1, 100)))

    assert lines == MIN_GROUPS


def test_a_run_that_has_had_a_spread_gets_more_patience():
    w = watch()
    w.completions(table(1, [GOOD] * 16, prompts=4))
    w.step(line(1))

    _, lines = first(w, (no_spread(i) for i in range(2, 200)))

    assert lines == LATE * 10


def test_a_reward_at_its_top_is_solved_not_stuck():
    w = watch()
    w.completions(table(1, [GOOD] * 16))
    solved = {"rewards/MMFormat/mean": 1.0, "rewards/MMContent/mean": 1.0, "reward": 1.0}

    assert first(w, (no_spread(i, **solved) for i in range(1, 200))) == (None, None)


def test_a_small_spread_now_and_then_is_a_good_run():
    w = watch()
    draw = random.Random(3)
    w.completions(table(1, [GOOD] * 16))
    rows = [
        line(i, frac_reward_zero_std=1.0 if draw.random() < 0.7 else 0.75) for i in range(1, 2000)
    ]

    assert first(w, rows) == (None, None)


def test_figures_logged_every_fifth_step_count_as_five_steps():
    w = watch()
    w.completions(table(1, [GOOD] * 16))

    found, lines = first(w, (no_spread(i) for i in range(5, 500, 5)))

    assert found is not None
    assert lines is not None
    assert lines <= 4


# Rewards at their floor


def report(step, **figures):
    """The run of the report: one easy reward pays, the others never."""
    return line(step) | {
        "reward": 0.3,
        "rewards/MMFormat/mean": 0.0,
        "rewards/MMFormat/std": 0.0,
        "rewards/MMContent/mean": -1.0,
        "rewards/MMContent/std": 0.0,
        "rewards/PeopleFocus/mean": 0.3,
        "rewards/PeopleFocus/std": 0.1,
        **figures,
    }


def test_content_rewards_at_their_floor_while_another_pays_stop_the_run():
    found, lines = first(watch(), (report(i) for i in range(1, 200)))

    assert found is not None
    assert (found.sign, lines) == ("floor", 50)
    assert "MMFormat and MMContent lie flat at their floor" in found.seen
    assert "PeopleFocus alone supplies the reward" in found.seen


def test_a_format_still_being_learned_is_a_warm_up():
    rows = [
        report(i, **{"rewards/PeopleFocus/mean": 0.1 + 0.004 * i, "reward": 0.1 + 0.004 * i})
        for i in range(1, 200)
    ]

    assert first(watch(), rows) == (None, None)


def test_a_content_reward_that_leaves_its_floor_is_a_good_run():
    rows = [
        report(
            i, **({"rewards/MMContent/mean": -0.5, "rewards/MMContent/std": 0.4} if i % 9 else {})
        )
        for i in range(1, 300)
    ]

    assert first(watch(), rows) == (None, None)


# Gradient


@pytest.mark.parametrize("value", [math.nan, math.inf, "nan"])
@pytest.mark.parametrize("key", ["grad_norm", "loss"])
def test_figures_that_are_no_numbers_stop_the_run_at_the_third_step(key, value):
    w = watch()

    found, lines = first(w, (line(i, **{key: value}) for i in range(1, 20)))

    assert found is not None
    assert (found.sign, lines) == ("broken_gradient", 3)
    assert key in found.seen


def test_one_overflow_while_float16_finds_its_scale_is_ordinary():
    rows = [line(i, grad_norm=math.inf if i % 3 == 0 else 1.0) for i in range(1, 100)]

    assert first(watch(), rows) == (None, None)


def test_no_gradient_although_rewards_differ_stops_the_run():
    found, lines = first(watch(), (line(i, grad_norm=0.0) for i in range(1, 50)))

    assert found is not None
    assert (found.sign, lines) == ("stuck_gradient", 10)
    assert "75% of the groups" in found.seen


# Rollout by vLLM that drifts from the trainer


def test_a_rollout_of_other_probabilities_stops_the_run():
    """Three of ten steps: where only clips are seen otherwise, not every step has one."""
    monitor = RunMonitor(WatchSettings(), RANGES, rollout_kl=0.02)
    seen = (0.001, 0.03, 0.001, 0.05, 0.001, math.nan)
    found, number = first(monitor, [line(n, **{ROLLOUT_KL: kl}) for n, kl in enumerate(seen, 1)])
    assert found is not None
    assert (found.sign, number) == ("drifted", 6)
    assert "vLLM and the trainer differ by nan nats a token (KL)" in str(found)
    assert "in 3 of the last 6 steps by more than the 0.02 of rounding" in str(found)
    assert "an adapter that it ignores" in str(found)


def test_rounding_and_a_rollout_that_is_not_compared_are_left_alone():
    close = RunMonitor(WatchSettings(), RANGES, rollout_kl=0.02)
    alone = RunMonitor(WatchSettings(), RANGES)
    for step in range(1, 50):
        assert close.step(line(step, **{ROLLOUT_KL: 0.02 if step % 5 else 0.05})) is None
        assert alone.step(line(step, **{ROLLOUT_KL: 5.0})) is None
    assert alone.summarise()["means"][ROLLOUT_KL] == 5.0


# Truncated completions


def test_completions_that_never_end_stop_the_run():
    rows = (line(i, completions__clipped_ratio=1.0) for i in range(1, 50))

    found, lines = first(watch(), rows)

    assert found is not None
    assert (found.sign, lines) == ("truncated", 10)
    assert "max_completion_length" in found.todo


# The whole


def test_a_healthy_run_is_left_alone_and_summarised():
    w = watch()
    for i in range(1, 300):
        assert w.step(line(i)) is None
        assert w.completions(table(i, [GOOD] * 8)) is None

    summary = w.summarise()

    assert summary["diagnosis"] is None
    assert summary["steps"] == 299
    assert summary["garbled_share"] == 0.0
    assert summary["means"]["frac_reward_zero_std"] == pytest.approx(0.25)
    json.dumps(summary)


def test_lines_of_an_evaluation_and_the_summary_at_the_end_are_passed_over():
    w = watch(patience=1, broken_patience=1)
    rows = [
        {"eval_reward": 0.0, "eval_frac_reward_zero_std": 1.0, "global_step/max_steps": "5/10"},
        {"train_runtime": 12.0, "train_loss": math.nan, "global_step/max_steps": "10/10"},
        {"last_model_checkpoint": "checkpoint-10", "best_metric": None, "global_step": 10},
    ]

    assert first(w, rows) == (None, None)


def test_a_run_resumed_from_an_earlier_step_starts_its_counts_anew():
    w = watch()
    for i in range(1, 10):
        w.step(line(i, grad_norm=0.0))

    _, lines = first(w, (line(i, grad_norm=0.0) for i in range(5, 50)))

    assert lines == 10


def test_a_watch_that_is_off_measures_but_never_stops():
    w = watch(enabled=False)
    for i in range(1, 20):
        assert w.completions(table(i, [LOOP] * 8)) is None

    assert w.summarise()["garbled_share"] == 1.0
    assert w.summarise()["diagnosis"] is None


def test_the_diagnosis_stands_in_the_summary():
    w = watch(garbled_patience=1)
    w.completions(table(1, [LOOP]))

    assert w.summarise()["diagnosis"]["sign"] == "garbled"
