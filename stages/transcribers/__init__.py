"""Speech recognisers, one file a backend, and the guards before and behind them. What stage ``asr`` is made of."""
