"""The KFP components of the downloads: a data set, and a base model."""

from kfp import dsl

from omnistage.kubeflow import BaseModel, DatasetTarball


@dsl.component(base_image="python", install_kfp_package=False)
def download(config: str, store: str, tarball: dsl.Output[DatasetTarball]):
    """Fetch, verify and index a data set.

    Args:
        config: DownloadSettings as JSON.
        store: URI of the store.
        tarball: The archives, verified, with an index of their members.
    """
    from omnistage.kubeflow import run_stage

    run_stage("components.download.stage:STAGE", config, store, tarball)


@dsl.component(base_image="python", install_kfp_package=False)
def download_model(config: str, store: str, model: dsl.Output[BaseModel]):
    """Fetch and verify a base model.

    Args:
        config: ModelSettings as JSON.
        store: URI of the store.
        model: The model folder.
    """
    from omnistage.kubeflow import run_stage

    run_stage("components.download.stage:MODEL_STAGE", config, store, model)
