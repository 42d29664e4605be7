"""In a chain of trainings only what changes runs again, and chains share what they agree on."""

from omnistage.store.folder import FolderStore
from tests.recipes_run.kit import computed, run


def test_one_setting_of_the_last_training_runs_it_and_its_evaluation_alone(
    store: FolderStore,
) -> None:
    """Given sft, grpo and grpo, each from the one before it."""
    before = run("humanomni-v2", store)
    changed = run("humanomni-v2", store, "rl-answer.max_steps=1", "rl-answer.difficulty=null")
    assert computed(changed) == ["rl-answer", "eval"]
    start = changed["rl-answer"].manifest.metadata["lineage"]
    assert start == before["rl-answer"].manifest.metadata["lineage"]


def test_two_recipes_that_share_a_prefix_compute_it_once(store: FolderStore) -> None:
    """Given the two of LMM-R1, whose first training is the same."""
    one, other = (run(f"lmm-r1-mgt-{name}", store) for name in ("geo", "percereason"))
    same = [name for name in one if name in other and one[name].manifest == other[name].manifest]
    assert {"download-deepscaler", "rewrite_paths-deepscaler", "download_model", "fre"} <= set(same)
    assert "mgt" not in same
