"""``rlm plot``: runs as figures for papers, drawn with matplotlib from the records alone."""
