"""Mean and spread over seeds of the models that were made several times.

``repetitions`` of a task in ``report.json`` has for each group its ``models`` and for each of its
``metrics`` mean, ``sd`` (n − 1), ``low`` and ``high``.
"""

from collections.abc import Mapping, Sequence

from components.eval.metrics.spread import spread
from components.eval.report.figures import Figures


def repetitions(groups: Mapping[str, Sequence[str]], models: Mapping[str, Figures]) -> Figures:
    """Return the figures of one task; see the module.

    Args:
        groups: Models of each group.
        models: Each model's figures.
    """
    found: Figures = {}
    for name, members in groups.items():
        known = {
            metric: values
            for metric in models[members[0]]["metrics"]
            if None not in (values := [models[m]["metrics"][metric]["value"] for m in members])
        }
        metrics = {metric: spread(values) for metric, values in known.items()}
        found[name] = {"models": list(members), "metrics": metrics}
    return found
