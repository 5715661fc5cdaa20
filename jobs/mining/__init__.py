"""What `jobs.mine` is made of: films in windows, spans out of windows, and what is said of every span."""
