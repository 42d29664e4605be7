"""The KFP component that ends every run on a cluster, however its stages ended."""

from kfp import dsl


@dsl.component(base_image="python", install_kfp_package=False)
def end_run(store: str, steps: str, status: dsl.PipelineTaskFinalStatus):
    """Cancel the jobs that the run left behind, and record what happened and why.

    Args:
        store: URI of the store.
        steps: Names of the run's steps, separated by commas.
        status: How the steps ended as a whole.
    """
    from omnistage.task.exit_task import end_run

    end_run(store, steps.split(","), status.state, status.error_message or "")
