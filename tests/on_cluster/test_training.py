"""Training as jobs on the real operators: gangs, restarts, and one result wherever it is made."""

import threading

import pytest

from omnistage.store.manifest import Manifest
from omnistage.store.open import open_store
from tests.on_cluster.site import Site, curve

pytestmark = pytest.mark.usefixtures("training_operator")
STEPS = 200


@pytest.fixture(scope="module")
def inputs(here: Site) -> dict[str, Manifest]:
    """What the stages before training make, in the store."""
    made: dict[str, Manifest] = {}
    for stage in ("download", "download_model", "rewrite_paths"):
        made[stage] = here.run(here.recipe(), stage, "s3://omnistage/inputs", made).manifest
    return made


@pytest.fixture(scope="module")
def one_node(here: Site, inputs: dict[str, Manifest]) -> Manifest:
    """The SFT checkpoint of one node of four processes."""
    settings = {"nodes": 1, "gpus_per_node": 4}
    return here.run(here.recipe(), "sft", "s3://omnistage/one-node", inputs, **settings).manifest


def test_two_nodes_of_two_processes_train_as_one_node_of_four(
    here: Site, inputs: dict[str, Manifest], one_node: Manifest
) -> None:
    store = "s3://omnistage/two-nodes"
    seen: list[list[str]] = []
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(1):
            names = (p["metadata"]["name"] for p in here.pods())
            seen.append(sorted(name for name in names if "encode" not in name))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        made = here.run(here.recipe(), "sft", store, inputs, nodes=2, gpus_per_node=2).manifest
    finally:
        watching.set()
        watcher.join()
    assert max(map(len, seen)) == 2
    assert made.key == one_node.key
    assert made.counts["steps"] == one_node.counts["steps"] == 12
    two = curve(open_store(store), made)
    one = curve(open_store("s3://omnistage/one-node"), one_node)
    assert two == pytest.approx(one, rel=1e-4)
    # Nothing of the work is left in the store beside the result.
    assert open_store(store).list_work("sft", made.key) == []


def test_a_worker_that_is_deleted_costs_one_restart_from_the_last_checkpoint(
    here: Site, inputs: dict[str, Manifest], capfd: pytest.CaptureFixture[str]
) -> None:
    store = open_store("s3://omnistage/restart")
    # Far more steps than are done while a pod is deleted: a worker that has ended cannot be lost.
    recipe = here.recipe(sft={"batch_size": 4, "max_steps": STEPS, "save_steps": 5})
    killed: list[str] = []

    def kill_after_a_checkpoint() -> None:
        def saved() -> bool:
            keys = {p["metadata"]["labels"]["omnistage.dev/key"] for p in here.pods()}
            names = {name for key in keys for name in store.list_work("sft", key)}
            # A checkpoint counts when both nodes have saved it, in whichever order they end.
            return any({f"{step}/0.json", f"{step}/1.json"} <= names for step in range(5, STEPS, 5))

        here.cluster.wait("a checkpoint of both nodes in the store", saved, 900)
        name = next(p["metadata"]["name"] for p in here.pods() if "worker" in p["metadata"]["name"])
        here.cluster.kubectl("delete", "pod", name, "-n", here.namespace, "--grace-period=0")
        killed.append(name)

    killer = threading.Thread(target=kill_after_a_checkpoint)
    killer.start()
    made = here.run(recipe, "sft", store.uri, inputs, nodes=2, gpus_per_node=1).manifest
    killer.join()
    [worker] = killed
    said = capfd.readouterr().err
    assert f"(pod {worker}) was deleted from outside" in said
    assert said.count("the whole gang starts again") == 1
    assert made.counts["steps"] == STEPS
    assert made.metadata["resumed_from_step"] in range(5, STEPS, 5)
    assert len(curve(store, made)) == STEPS


def test_a_trainjob_makes_the_same_checkpoint(
    here: Site, inputs: dict[str, Manifest], one_node: Manifest, trainer_operator: None
) -> None:
    store = open_store("s3://omnistage/trainjob")
    settings = {"backend": "trainjob", "nodes": 2, "gpus_per_node": 1}
    made = here.run(here.recipe(), "sft", store.uri, inputs, **settings).manifest
    names = [f"sft-{made.key[:16]}-0", f"sft-encode-{made.key[:16]}-0"]
    assert here.jobs("trainjobs") == names
    assert made.key == one_node.key
    one = curve(open_store("s3://omnistage/one-node"), one_node)
    assert curve(store, made) == pytest.approx(one, rel=1e-4)


def test_what_the_store_has_starts_no_job(
    here: Site, inputs: dict[str, Manifest], one_node: Manifest
) -> None:
    before = here.jobs()
    again = here.run(here.recipe(), "sft", "s3://omnistage/one-node", inputs, nodes=2)
    assert again.cached
    assert again.manifest == one_node
    assert here.jobs() == before


def test_a_stage_that_finds_its_input_wrong_says_so_through_the_job(
    here: Site, inputs: dict[str, Manifest]
) -> None:
    from omnistage.errors import InputError

    recipe = here.recipe(sft={"batch_size": 3})
    with pytest.raises(InputError, match=r"sft\.batch_size: 3 does not divide by 2 processes"):
        here.run(recipe, "sft", "s3://omnistage/wrong", inputs, nodes=1, gpus_per_node=2)
    assert here.pods() == [] or all(
        p["status"]["phase"] in ("Succeeded", "Failed") for p in here.pods()
    )
