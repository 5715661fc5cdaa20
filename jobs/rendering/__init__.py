"""From data sets to takes: what `jobs.render` renders, clip by clip."""
