"""Benchmarks by name: what their files look like, and the records that are made of them."""

from components.eval.benchmarks import emotion, grounding, pairs, questions
from components.eval.benchmarks.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for module in (pairs, questions, emotion, grounding)
    for benchmark in module.BENCHMARKS
}
