"""The local web tool behind `jobs.view` and `jobs.annotate`: server, readers, the index of measures, and the pages."""
