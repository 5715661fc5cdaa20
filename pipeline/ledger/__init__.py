"""What happened to every clip in every stage: diary, limits, watchdog, survey, report, progress."""
