"""`fastpipe-profile run train.py ARGS...`: where the time of an unmodified script goes."""
