"""What Kubernetes would refuse is refused where the recipe is read, with the limit."""

import pytest

from omnistage.cluster.settings import LaunchSettings
from omnistage.errors import InputError
from omnistage.recipe.document import parse_recipe, validate


def read(text: str) -> LaunchSettings:
    return validate(parse_recipe(text, "my.yaml"), LaunchSettings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"queue: {'q' * 64}", "my.yaml:1: queue: a queue's name, which becomes a label, has at"),
        ("queue: Team_A", "my.yaml:1: queue: .* small letters, digits, '-' and '.'"),
        (f"service_account: {'a' * 254}", "a name has at most 253 characters, 'a+'… has 254"),
        (f"node_pools: {{p: {{node_selector: {{zone: {'z' * 64}}}}}}}", "'zone' has at most 63"),
        (f"node_pools: {{p: {{node_selector: {{a/{'k' * 64}: z}}}}}}", "has at most 63"),
        ("node_pools: {p: {node_selector: {a/: z}}}", "label 'a/' has no name"),
        ("node_pools: {p: {node_selector: {a: -z}}}", "the value of label 'a' has letters"),
        ("volumes: [{claim: Data, mount_path: /x}]", "my.yaml:1: volumes.0.claim: a name has"),
    ],
)
def test_a_name_that_kubernetes_refuses(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(text)


def test_names_and_labels_as_they_should_be() -> None:
    settings = read(
        f"queue: {'q' * 63}\nscheduler: ''\nservice_account: {'a' * 253}\n"
        "node_pools: {gpu: {node_selector: {cloud.example/gpu-type: H100_80.x, empty: ''}}}"
    )
    assert len(settings.queue) == 63
    assert settings.node_pools["gpu"].node_selector["empty"] == ""
