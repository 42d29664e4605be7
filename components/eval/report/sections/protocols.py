"""The same completions under several protocols, side by side.

``protocols`` of a task in ``report.json`` has for each protocol its conventions in words, and for
each model its figure with interval, the share of answers that can be read, and ``differ``: the ids
of the records whose score is another than under omnistage's own protocol.
"""

from collections.abc import Mapping, Sequence

from components.eval.grading import Graded
from components.eval.metrics.bootstrap import bootstrap, mean_of
from components.eval.protocols import PROTOCOLS
from components.eval.protocols.protocol import INVALID_TITLES, Protocol, averaged, score_record
from components.eval.records import TestRecord
from components.eval.report.data import ReportData
from components.eval.report.figures import Figures, bounds


def under_protocols(
    data: ReportData, records: Sequence[TestRecord], graded: Mapping[str, Sequence[Graded]]
) -> Figures:
    """Return the figures of one task; see the module.

    Args:
        data: The evaluation; its ``protocols`` are shown beside the own one, as far as they fit.
        records: The task's records.
        graded: Each model's answers, in their order.
    """
    task = records[0].task.name
    names = [name for name in data.protocols if name != "omnistage" and PROTOCOLS[name].fits(task)]
    if not names:
        return {}
    return {
        name: {
            **_conventions(PROTOCOLS[name]),
            "models": {m: _model(data, PROTOCOLS[name], records, g) for m, g in graded.items()},
        }
        for name in ("omnistage", *names)
    }


def _conventions(protocol: Protocol) -> Figures:
    return {
        "title": protocol.title,
        "source": protocol.source,
        "invalid": INVALID_TITLES[protocol.invalid],
        "orders": protocol.orders,
        "average": protocol.average,
        "decoding": protocol.decoding,
        "sound": protocol.sound,
    }


def _model(
    data: ReportData, protocol: Protocol, records: Sequence[TestRecord], graded: Sequence[Graded]
) -> Figures:
    own = [g.score for g in graded]
    if protocol.name == "omnistage":
        scores = own
        valid = [sum(s is not None for s in g.said) / len(g.said) for g in graded]
    else:
        scored = [
            score_record(protocol, r, [None if a.error else a.text for a in g.answers])
            for r, g in zip(records, graded, strict=True)
        ]
        scores, valid = [s.score for s in scored], [s.valid for s in scored]
    interval = bootstrap(
        averaged(protocol, records, scores),
        [r.cluster for r in records],
        resamples=data.bootstrap_samples,
        seed=data.bootstrap_seed,
    )
    return {
        **bounds(interval),
        "valid": mean_of(valid).value,
        "differ": [r.id for r, s, o in zip(records, scores, own, strict=True) if s != o],
    }
