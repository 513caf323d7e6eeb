"""What our solver is timed beside."""
