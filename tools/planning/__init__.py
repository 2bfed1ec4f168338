"""``litmus plan``: how many units, how much power, how small an effect, how many days."""
