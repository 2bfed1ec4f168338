"""A folder for ``PYTHONPATH``: what stands here is imported by Python itself."""
