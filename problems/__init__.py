"""What is solved: learning problems, interpolation and textbook control problems."""
