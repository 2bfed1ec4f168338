"""The executable proof: what the statistics promise, tried on the product's own functions."""
