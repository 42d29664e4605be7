"""The KFP components of the downloads: a data set, and a base model."""

from kfp import dsl

from omnistage.kubeflow import types


@dsl.component(base_image="python", install_kfp_package=False)
def download(config: str, store: str, tarball: dsl.Output[types.DatasetTarball], source: str = ""):
    """Fetch, verify and index a data set.

    Args:
        config: DownloadSettings as JSON.
        store: URI of the store.
        tarball: The archives, verified, with an index of their members.
        source: URI of the data set, instead of the sources in config; empty for those.
    """
    from components.download.sources.uri import with_source
    from components.download.stage import STAGE
    from omnistage.task.kfp_body import run_stage

    run_stage(STAGE, config, store, tarball, change=with_source(source))


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
        store: URI of the store.
        model: The model folder.
        source: URI of the model, instead of the sources in config; empty for those.
        runtime: TaskRuntime as JSON.
    """
    from components.download.sources.uri import with_source
    from components.download.stage import MODEL_STAGE
    from omnistage.task.kfp_body import run_stage

    run_stage(MODEL_STAGE, config, store, model, {}, runtime, change=with_source(source))
