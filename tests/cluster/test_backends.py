"""Each back end says everything about itself; doctor, chart and messages read it."""

from typing import get_args

import pytest

from omnistage.cluster.jobs import backends
from omnistage.cluster.jobs.backends import BACKENDS, backend_of, custom_resources, rules
from omnistage.cluster.jobs.job import Right
from omnistage.cluster.jobs.pytorchjob import PyTorchJobs
from omnistage.cluster.settings import LaunchSettings
from omnistage.doctor.rules import operator_check, rights


def test_the_rows_are_the_values_of_the_setting() -> None:
    names = get_args(LaunchSettings.model_fields["backend"].annotation)
    assert names == tuple(b.name for b in BACKENDS)
    assert [backend_of(LaunchSettings(backend=name)).name for name in names] == list(names)


def test_each_back_end_needs_its_own_kind_and_the_rights_to_handle_it() -> None:
    for backend in BACKENDS:
        assert backend.custom_resources[f"{backend.plural}.{backend.group}"] == backend.version
        handled = {r.resource: r.verbs for r in backend.rights if r.group == backend.group}
        assert set(handled[backend.plural]) == {"create", "get", "list", "delete", "patch"}


def test_a_third_back_end_is_one_file_and_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    class RayJobs(PyTorchJobs):
        name, group, version = "rayjob", "ray.io", "v1"
        plural, kind = "rayjobs", "RayJob"
        custom_resources = {"rayjobs.ray.io": "v1"}
        operator = "kuberay-operator"
        rights = (Right("ray.io", "rayjobs", ("create",)),)

    monkeypatch.setattr(backends, "BACKENDS", (*BACKENDS, RayJobs()))
    settings = LaunchSettings.model_construct(backend="rayjob", queue="team")

    assert custom_resources(settings) == {
        "rayjobs.ray.io": "v1",
        "localqueues.kueue.x-k8s.io": "v1beta1",
    }
    assert ("create", "ray.io", "rayjobs") in rights(settings)
    assert "no deployment kuberay-operator" in operator_check([], settings).found
    granted = rules(backends.all_launcher_rights())
    assert {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]} in granted
    assert "rayjobs" in [r.resource for r in backends.reaper_rights()]
