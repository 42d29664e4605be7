"""What is checked before GRPO starts, on a small sample, with the actual model and template.

A GRPO run whose rollout sees another prompt than plain inference does burns a night and learns
nothing; these checks take seconds. In the trainer's environment::

    python -m components.grpo.preflight --spec preflight.json --result result.json

===================  ==============================================================================
check                a failure means
===================  ==============================================================================
media tags           a record shows the model less than its text says
rewards              a weighted reward has no gold, or pays a wrong answer as much as the gold one
trainer, encoding    ms-swift raises an error on the records
use_audio_in_video   settings, environment and template do not say the same
distinct prompts     a batch holds one prompt for all
media counts         items, features and placeholder tokens are out of step
sound counted once   the sound of a video comes once more as an audio item
media bounds         (a warning) media are larger than the environment asks for
media tokens barred  (a warning) the model may generate ``<|IMAGE|>``, which ends the run
media matter         the logits do not change with the media
rollout parity       the rollout generates something else than plain inference
vLLM parity          vLLM, where it rolls out, generates something else than plain inference
vLLM positions       vLLM gives a prompt's tokens other positions than the trainer
loss parity          the loss is computed on something else than the rollout
===================  ==============================================================================
"""

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.grpo.preflight.encodings import (
    check_batch,
    check_bounds,
    check_counts,
    check_flag,
    check_placeholders,
    encode_all,
)
from components.grpo.preflight.loaded_model import LoadedModel, load_model, rollout_template
from components.grpo.preflight.model import check_media, check_parity
from components.grpo.preflight.records import check_records, load_records, sample_records
from components.grpo.preflight.rewards import check_rewards
from components.grpo.preflight.spec import Check, PreflightResult, PreflightSpec, failed
from omnistage.redact import redact

SAMPLE = 16
"""Records that are encoded and rewarded."""

__all__ = ["Check", "PreflightResult", "PreflightSpec", "run"]


def run(
    spec: PreflightSpec, load: Callable[[PreflightSpec], LoadedModel] = load_model
) -> PreflightResult:
    """Make all checks, the cheap ones first; a failed stage of them leaves out what builds on it.

    Sets the environment variables of ``spec.env`` for this process, before ms-swift is imported.

    Args:
        spec: The run that is about to start.
        load: Loads the model; called only if the records and rewards pass.

    Raises:
        InputError: If the file of records is missing or holds a line that is no JSON object.
    """
    began = time.monotonic()
    os.environ.update(spec.env)
    records = load_records(Path(spec.records))
    checks = check_records(spec, records)
    if all(check.ok for check in checks):
        sample = sample_records(records, SAMPLE, spec.seed)
        checks += check_rewards(spec, sample, os.environ)
        if all(check.ok for check in checks):
            checks += _check_with_model(spec, load(spec), sample)
    return PreflightResult(checks=checks, seconds=round(time.monotonic() - began, 1))


def _check_with_model(
    spec: PreflightSpec, loaded: LoadedModel, sample: list[dict[str, Any]]
) -> list[Check]:
    template = rollout_template(loaded)
    checks: list[Check] = [check_placeholders(loaded)]
    try:
        checks.append(check_flag(spec, template, sample))
        if not checks[-1].ok:
            return checks
        encoded, broken = encode_all(template, sample)
        if broken:
            return [*checks, broken]
        checks.append(check_batch(loaded, template, sample))
        checks += check_counts(loaded, template, sample, encoded, spec.use_audio_in_video)
        checks.append(check_bounds(loaded, encoded))
        if all(check.ok for check in checks):
            checks.append(check_media(loaded, template, sample, encoded))
            checks += check_parity(spec, loaded, template, sample, encoded)
    except Exception as e:  # whatever ms-swift raises here, it would raise in the run
        print(redact(traceback.format_exc()), file=sys.stderr)
        checks.append(
            failed("trainer", f"ms-swift fails on these records: {type(e).__name__}: {e}")
        )
    return checks
