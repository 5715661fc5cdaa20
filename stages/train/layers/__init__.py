"""What listener models are made of: layers for padded sequences, encoders, diffusion."""
