"""Reading text."""

from components.eval.tasks.task import Task, answer_text, gold_text
from omnistage.rewards.answers import text_accuracy

TASK = Task(
    name="ocr",
    title="Text reading",
    about="1 minus the word error rate, at least 0, the mean over records.",
    headline="word_accuracy",
    gold=gold_text,
    read=lambda record, text, order, strict: answer_text(text, strict),
    score=text_accuracy,
)
