"""The KFP component of rewrite_paths."""

from kfp import dsl

from omnistage.kubeflow import types


@dsl.component(base_image="python", install_kfp_package=False)
def rewrite_paths(
    config: str,
    store: str,
    data: dsl.Input[types.DatasetTarball],
    records: dsl.Output[types.RewrittenJSONL],
):
    """Turn a data set's records into canonical ones, with every medium found in its index.

    Args:
        config: RewriteSettings as JSON.
        store: URI of the store.
        data: The downloaded data set.
        records: Canonical records in the splits sft, rl and test.
    """
    from components.rewrite_paths.stage import STAGE
    from omnistage.task.kfp_body import run_stage

    run_stage(STAGE, config, store, records, {"data": data})
