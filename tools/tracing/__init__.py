"""``litmus trace``: what became of one event, where, and why."""
