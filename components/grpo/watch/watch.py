"""Watches a GRPO run by its own logs and says when it cannot learn, in its first steps.

Fed with each line of ms-swift's ``logging.jsonl`` and ``completions.jsonl`` (ms-swift 4.6 with
``--log_completions true``), it returns a :class:`Diagnosis` as soon as one of these signs has held
long enough:

===================  ==============================================================================
sign                 when
===================  ==============================================================================
garbled              half of the completions cannot be read, in ``garbled_patience`` logged batches
drifted              rollout and trainer give the same tokens other probabilities,
                     ``rollout_patience`` of the last ten steps (vLLM only)
broken gradient      loss or gradient norm is not a number, ``broken_patience`` steps
constant reward      no group of completions has any spread, ``patience`` steps and 40 groups
floor                all rewards but one lie flat at their floor, ``patience`` × 5 steps
stuck gradient       gradient norm is 0 although rewards differ, ``patience`` steps
truncated            95% of the completions reach the length limit, ``patience`` steps
===================  ==============================================================================

Good runs pass: one step with a spread, a gradient or a finished completion starts the count anew;
a run that has had a spread before gets five times as long, because data that is too easy or too
hard by turns is ordinary; and a reward at its top is solved, not stuck. With seven groups in ten
without spread, which is common, 40 in a row happen once in a million.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import Field

from components.grpo.watch.diagnosis import Diagnosis, Sign
from components.grpo.watch.garbled import diagnose
from omnistage.settings import Settings, operational

MIN_GROUPS = 40
"""Groups in a row without any spread before a reward counts as constant."""
LATE = 5
"""How much more patience a run gets that has shown a spread, and the floor sign."""

ROLLOUT_KL = "rollout_correction/k3_kl"
"""How far vLLM's rollout is from the trainer, as ms-swift logs it."""

_WINDOW = 10
"""Steps in which a drift is counted: where only clips are seen otherwise, not every step has it."""

_ALL_GROUPS = 0.999  # share of groups without spread that counts as all of them
_NEAR = 0.02  # share of a reward's range that counts as its floor or its top
_FLAT = 1e-6  # standard deviation or gradient norm that counts as none


class WatchSettings(Settings):
    """When a GRPO run is stopped because it cannot learn."""

    enabled: bool = Field(
        default=True,
        description="Watch the run and stop it with a diagnosis.",
        json_schema_extra=operational(),
    )
    patience: int = Field(
        default=10,
        ge=1,
        description="Optimizer steps in a row that a sign must hold.",
        json_schema_extra=operational(),
    )
    garbled_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share (0..1) of a batch's completions that cannot be read.",
        json_schema_extra=operational(),
    )
    garbled_patience: int = Field(
        default=3,
        ge=1,
        description="Logged batches of completions in a row with that share.",
        json_schema_extra=operational(),
    )
    broken_patience: int = Field(
        default=3,
        ge=1,
        description="Steps in a row whose loss or gradient norm is not a finite number; one or two "
        "are ordinary while float16 finds its loss scale.",
        json_schema_extra=operational(),
    )
    rollout_kl: float | None = Field(
        default=None,
        gt=0,
        description="Nats a token by which vLLM's probabilities may differ from the trainer's (KL, "
        "k3 estimate); by default 0.001 in float32 and 0.02 otherwise. Looked at where temperature "
        "is 1.",
        json_schema_extra=operational(),
    )
    rollout_patience: int = Field(
        default=3,
        ge=1,
        le=10,
        description="How many of the last ten steps have a larger difference when it is stopped.",
        json_schema_extra=operational(),
    )
    clipped_ratio: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="Share (0..1) of completions that reach the length limit.",
        json_schema_extra=operational(),
    )


@dataclass
class _Held:
    """Since which step a sign has held, and on how many groups of completions."""

    since: int | None = None
    groups: int = 0

    def update(self, holds: bool, step: int, groups: int = 0) -> None:
        if not holds:
            self.since, self.groups = None, 0
            return
        if self.since is None:
            self.since = step
        self.groups += groups

    def steps(self, step: int) -> int:
        """Steps the sign has held, the first one included."""
        return 0 if self.since is None else step - self.since + 1


@dataclass
class RunMonitor:
    """Follows one run; a new one, or the same fed from the first line, for a resumed run.

    Args:
        settings: Thresholds and patience.
        rewards: Lowest and highest value of each reward, by its name in the logs (``MMFormat``).
        rollout_kl: Nats a token by which rollout and trainer may differ; None where that is not
            looked at.
    """

    settings: WatchSettings
    rewards: Mapping[str, tuple[float, float]]
    rollout_kl: float | None = None
    diagnosis: Diagnosis | None = None
    _step: int = 0
    _groups: int = 1
    _spread_seen: bool = False
    _example: str | None = None
    _first_pay: float | None = None
    _held: dict[Sign, _Held] = field(default_factory=dict)
    _apart: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _table_step: int = -1
    _garbled_batches: int = 0
    _completions: int = 0
    _garbled: int = 0
    _sums: dict[str, tuple[float, int]] = field(default_factory=dict)

    def step(self, row: Mapping[str, Any]) -> Diagnosis | None:
        """Take one line of ``logging.jsonl``.

        Args:
            row: The line, decoded. Lines of an evaluation and the summary at the end are passed
                over, and so is every figure that a line lacks.

        Returns:
            The diagnosis once a sign has held long enough, else ``None``.
        """
        step = _step_number(row)
        if step is None or ("grad_norm" not in row and "reward" not in row):
            return None
        if step < self._step:  # resumed from an earlier checkpoint
            self._held.clear()
            self._apart.clear()
        elapsed = max(1, step - self._step) if self._step else 1
        self._step = step
        for key in (
            "reward",
            "frac_reward_zero_std",
            "completions/clipped_ratio",
            "grad_norm",
            ROLLOUT_KL,
        ):
            self._note(key, _number(row, key))
        found = (
            self._broken(row)
            or self._drifted(row)
            or self._constant(row, elapsed)
            or self._floor(row)
            or self._stuck(row)
            or self._truncated(row)
        )
        return self._conclude(found)

    def completions(self, table: Mapping[str, Sequence[Any]]) -> Diagnosis | None:
        """Take one line of ``completions.jsonl``: a table of one batch, a list a column.

        Args:
            table: Columns ``step`` (text), ``prompt``, ``completion``, ``advantages``, one a
                reward, and those of the records. ms-swift writes a step's table once more with
                the summary at the end; the second one is passed over.

        Returns:
            The diagnosis once enough batches cannot be read, else ``None``.
        """
        texts = [text for text in table.get("completion", ()) if isinstance(text, str)]
        steps = [int(step) for step in table.get("step", ()) if str(step).isdigit()]
        if not texts or not steps or steps[-1] == self._table_step:
            return None
        self._table_step = steps[-1]
        prompts = {str(prompt) for prompt in table.get("prompt", ())}
        self._groups = max(1, len(prompts))
        self._step = max(self._step, self._table_step)
        signs = [(text, diagnose(text)) for text in texts]
        garbled = [(text, found) for text, found in signs if found]
        self._example = garbled[0][0] if garbled else texts[0]
        self._completions += len(texts)
        self._garbled += len(garbled)
        share = len(garbled) / len(texts)
        self._garbled_batches = (
            self._garbled_batches + 1 if share >= self.settings.garbled_share else 0
        )
        if self._garbled_batches < self.settings.garbled_patience:
            return None
        why = garbled[0][1][0]
        return self._conclude(
            self._diagnose(
                "garbled",
                f"{len(garbled)} of {len(texts)} completions cannot be read ({why}), in "
                f"{self._garbled_batches} batches in a row",
            )
        )

    def summarise(self) -> dict[str, Any]:
        """Return what was watched, for the report: counts, means over the run, the diagnosis."""
        return {
            "enabled": self.settings.enabled,
            "steps": self._step,
            "completions": self._completions,
            "garbled_share": self._garbled / self._completions if self._completions else None,
            "means": {key: total / count for key, (total, count) in self._sums.items()},
            "diagnosis": asdict(self.diagnosis) if self.diagnosis else None,
        }

    def _broken(self, row: Mapping[str, Any]) -> Diagnosis | None:
        values = {key: _number(row, key) for key in ("loss", "grad_norm")}
        bad = {k: v for k, v in values.items() if v is not None and not math.isfinite(v)}
        if self._steps("broken_gradient", bool(bad)) < self.settings.broken_patience:
            return None
        figures = ", ".join(f"{key} is {value}" for key, value in bad.items())
        return self._diagnose("broken_gradient", figures + self._for("broken_gradient"))

    def _drifted(self, row: Mapping[str, Any]) -> Diagnosis | None:
        difference = _number(row, ROLLOUT_KL)
        if difference is None or self.rollout_kl is None:
            return None
        self._apart.append(difference)
        # Not "more than", so that nan counts.
        drifted = [value for value in self._apart if not value <= self.rollout_kl]
        if len(drifted) < self.settings.rollout_patience:
            return None
        return self._diagnose(
            "drifted",
            f"vLLM and the trainer differ by {drifted[-1]:.2g} nats a token (KL) on the tokens "
            f"that vLLM sampled, and in {len(drifted)} of the last {len(self._apart)} steps by "
            f"more than the {self.rollout_kl:g} of rounding",
        )

    def _constant(self, row: Mapping[str, Any], elapsed: int) -> Diagnosis | None:
        zero_spread = _number(row, "frac_reward_zero_std")
        if zero_spread is None:
            return None
        holds = zero_spread >= _ALL_GROUPS and not self._solved(row)
        self._spread_seen |= zero_spread < _ALL_GROUPS
        factor = LATE if self._spread_seen else 1
        steps = self._steps("constant_reward", holds, self._groups * elapsed)
        groups = self._held["constant_reward"].groups
        if steps < self.settings.patience * factor or groups < MIN_GROUPS * factor:
            return None
        return self._diagnose(
            "constant_reward",
            f"the completions of each prompt all earn the same{self._for('constant_reward')} "
            f"({groups} prompts): reward {_number(row, 'reward')}{self._means(row)}",
        )

    def _floor(self, row: Mapping[str, Any]) -> Diagnosis | None:
        means = self._reward_means(row)
        if len(means) < 2:
            return None
        at_floor = [name for name in means if self._at_floor(name, row)]
        paying = [name for name in means if name not in at_floor]
        holds = len(at_floor) >= 1 and len(paying) == 1
        if holds and self._first_pay is not None:
            # A format that is still being learned is a warm-up, not a failure.
            low, high = self.rewards[paying[0]]
            holds = means[paying[0]] <= self._first_pay + _NEAR * (high - low)
        steps = self._steps("floor", holds)
        if steps <= 1:
            self._first_pay = means[paying[0]] if holds else None
        if steps < self.settings.patience * LATE:
            return None
        return self._diagnose(
            "floor",
            f"{' and '.join(at_floor)} lie flat at their floor{self._for('floor')} while "
            f"{paying[0]} alone supplies the reward{self._means(row)}",
        )

    def _stuck(self, row: Mapping[str, Any]) -> Diagnosis | None:
        norm = _number(row, "grad_norm")
        zero_spread = _number(row, "frac_reward_zero_std")
        if norm is None or zero_spread is None or zero_spread >= _ALL_GROUPS:
            return None  # without a spread no gradient is to be expected
        if self._steps("stuck_gradient", norm <= _FLAT) < self.settings.patience:
            return None
        return self._diagnose(
            "stuck_gradient",
            f"grad_norm is 0{self._for('stuck_gradient')} although the rewards differ within "
            f"{1 - zero_spread:.0%} of the groups",
        )

    def _truncated(self, row: Mapping[str, Any]) -> Diagnosis | None:
        clipped = _number(row, "completions/clipped_ratio")
        if clipped is None:
            return None
        holds = clipped >= self.settings.clipped_ratio
        if self._steps("truncated", holds) < self.settings.patience:
            return None
        length = _number(row, "completions/mean_length")
        return self._diagnose(
            "truncated",
            f"{clipped:.0%} of the completions reach the length limit{self._for('truncated')} "
            f"(mean length {length} tokens)",
        )

    def _steps(self, sign: Sign, holds: bool, groups: int = 0) -> int:
        held = self._held.setdefault(sign, _Held())
        held.update(holds, self._step, groups)
        return held.steps(self._step)

    def _for(self, sign: Sign) -> str:
        return f" for {self._held[sign].steps(self._step)} steps"

    def _reward_means(self, row: Mapping[str, Any]) -> dict[str, float]:
        found = {name: _number(row, f"rewards/{name}/mean") for name in self.rewards}
        return {name: mean for name, mean in found.items() if mean is not None}

    def _means(self, row: Mapping[str, Any]) -> str:
        means = self._reward_means(row)
        return "".join(f", {name} {mean:.3g}" for name, mean in means.items())

    def _at_floor(self, name: str, row: Mapping[str, Any]) -> bool:
        low, high = self.rewards[name]
        spread = _number(row, f"rewards/{name}/std")
        flat = spread is None or spread <= _FLAT
        mean = _number(row, f"rewards/{name}/mean")
        return flat and mean is not None and mean <= low + _NEAR * (high - low)

    def _solved(self, row: Mapping[str, Any]) -> bool:
        means = self._reward_means(row)
        return bool(means) and all(
            mean >= self.rewards[name][1] - _NEAR * (self.rewards[name][1] - self.rewards[name][0])
            for name, mean in means.items()
        )

    def _note(self, key: str, value: float | None) -> None:
        if value is not None and math.isfinite(value):
            total, count = self._sums.get(key, (0.0, 0))
            self._sums[key] = (total + value, count + 1)

    def _diagnose(self, sign: Sign, seen: str) -> Diagnosis:
        return Diagnosis.of(sign, self._step, seen, self._example)

    def _conclude(self, found: Diagnosis | None) -> Diagnosis | None:
        if found is None or not self.settings.enabled:
            return None
        self.diagnosis = self.diagnosis or found
        return found


def _step_number(row: Mapping[str, Any]) -> int | None:
    done = str(row.get("global_step/max_steps", "")).split("/")[0]
    return int(done) if done.isdigit() else None


def _number(row: Mapping[str, Any], key: str) -> float | None:
    """Return a figure of a line; ms-swift may write one as a number or as text (``nan``)."""
    value = row.get(key)
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
