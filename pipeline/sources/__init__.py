"""Getting films: downloads, their hosts and rates, what could not be had, what was withdrawn, hashes of the rest."""
