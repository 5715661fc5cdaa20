"""Who is speaking: voice activity, LR-ASD, and the mouth's motion against the sound."""
