"""The tasks by name; a further one is a module with ``TASK`` and a line here."""

from components.eval.tasks import (
    choice,
    emotion,
    free_form,
    judge,
    math,
    multi_choice,
    numeric,
    ocr,
    rec,
    regression,
    yes_no,
)
from components.eval.tasks.task import Task

_MODULES = (
    judge,
    choice,
    multi_choice,
    yes_no,
    emotion,
    math,
    numeric,
    regression,
    ocr,
    rec,
    free_form,
)
TASKS: dict[str, Task] = {module.TASK.name: module.TASK for module in _MODULES}
