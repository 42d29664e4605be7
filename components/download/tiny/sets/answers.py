"""How the generated sets ask for a thought and an answer, and how a lesson gives them."""

FORM = (
    " First output the thinking process in <think> </think> tags and then output the final answer "
    "in <answer> </answer> tags."
)
"""What VLM-R1, OmniRL and LMM-R1 put behind a question, in VLM-R1's words."""
TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def answered(thought: str | None, answer: str) -> str:
    """Return an answer in the form that is asked for, or without its thought."""
    before = "" if thought is None else f"<think>{thought}</think>"
    return f"{before}<answer>{answer}</answer>"
