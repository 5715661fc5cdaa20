"""Linear morphable models of the face and three fitters of their coefficients. Needs torch and numpy, nothing else."""
