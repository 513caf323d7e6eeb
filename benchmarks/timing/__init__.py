"""What `speed.py` times: the cases, the peers of our solver, and the parts of a solve."""
