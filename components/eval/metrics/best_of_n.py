"""Choosing one of N sampled answers: a judge's knock-out (OmniCritic)."""

from collections.abc import Callable, Generator, Sequence

from omnistage.records.verdict import Better


def knock_out(answers: Sequence[str], judge: Callable[[str, str], Better | None]) -> int:
    """Return the index of the answer that wins a knock-out judged pair by pair; see :func:`rounds`.

    Args:
        answers: The candidates, at least one.
        judge: Says which of (champion as A, challenger as B) is better.

    Raises:
        ValueError: If there is no answer.
    """
    contest = rounds(answers)
    try:
        pair = next(contest)
        while True:
            pair = contest.send(judge(*pair))
    except StopIteration as end:
        return end.value


def rounds(answers: Sequence[str]) -> Generator[tuple[str, str], Better | None, int]:
    """Yield the pairs of a knock-out, take the verdict on each, and return the winner's index.

    The champion, at first answer 0, meets each later answer in turn and is replaced only if the
    later one is judged better: a tie and an invalid verdict (None) keep the champion. Answers with
    the champion's very text are not judged.

    Args:
        answers: The candidates, at least one.

    Raises:
        ValueError: If there is no answer.
    """
    if not answers:
        raise ValueError("a knock-out needs at least one answer")
    champion = 0
    for challenger in range(1, len(answers)):
        if answers[challenger] == answers[champion]:
            continue
        verdict = yield answers[champion], answers[challenger]
        if verdict == "B":
            champion = challenger
    return champion
