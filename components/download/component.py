"""The KFP components of the downloads: a data set, and a base model."""

from kfp import dsl

from omnistage.kubeflow import types


@dsl.component(base_image="python", install_kfp_package=False)
def download(config: str, store: str, tarball: dsl.Output[types.DatasetTarball], source: str = ""):
    """Fetch, verify and index a data set.

    Args:
        config: DownloadSettings as JSON.
        tarball: The archives, verified, with an index of their members.
        source: URI of the data set, instead of the sources in config; empty for those.
    """
    from components.download.sources.uri import with_source
    from omnistage.task.kfp_body import run_stage

    stage = "components.download.stage:STAGE"
    run_stage(stage, config, store, tarball, change=with_source(source))


@dsl.component(base_image="python", install_kfp_package=False)
def download_model(
    config: str,
    store: str,
    model: dsl.Output[types.BaseModel],
    source: str = "",
    runtime: str = "{}",
):
    """Fetch and verify a base model.

    Args:
        config: ModelSettings as JSON.
        model: The model folder.
        source: URI of the model, instead of the sources in config; empty for those.
        runtime: TaskRuntime as JSON.
    """
    from components.download.sources.uri import with_source
    from omnistage.task.kfp_body import run_stage

    stage = "components.download.stage:MODEL_STAGE"
    run_stage(stage, config, store, model, {}, runtime, change=with_source(source))
