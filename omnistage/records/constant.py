"""When a constant answer solves a label set, so that accuracy on it says nothing."""

SOLVED_BY_CONSTANT = 0.8
"""Accuracy of a constant baseline from which a label set counts as solved by it, 0 to 1.

A set is flagged where a baseline that ignores the media is as good as the best published judge of
any pairwise set (80.2%, OmniCritic-R1 7B, on a set whose labels are all A): there, accuracy cannot
tell a judge from a constant. Balanced labels of two, three or four classes lie well below.
"""
