"""`fastpipe-profile run train.py ARGS...`: how an unmodified script spends its time."""
