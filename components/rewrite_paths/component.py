"""The KFP component of rewrite_paths."""

from kfp import dsl

from omnistage import kubeflow


@dsl.component(base_image="python", install_kfp_package=False)
def rewrite_paths(
    config: str,
    store: str,
    data: dsl.Input[kubeflow.DatasetTarball],
    records: dsl.Output[kubeflow.RewrittenJSONL],
):
    """Turn a data set's records into canonical ones, with every medium found in its index.

    Args:
        config: RewriteSettings as JSON.
        store: URI of the store.
        data: The downloaded data set.
        records: Canonical records in the splits sft, rl and test.
    """
    stage = "components.rewrite_paths.stage:STAGE"
    kubeflow.run_stage(stage, config, store, records, {"data": data})
