"""``litmus demo``: the Open Bandit Dataset, streamed through the whole stack and checked."""
