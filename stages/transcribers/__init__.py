"""Speech recognisers, one file a backend, and the guard before them. What stage ``asr`` is made of."""
