"""One package a stage: its KFP component, its settings and the program its container runs."""
