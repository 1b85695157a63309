"""`fastpipe-preview`: a picture sheet of what a recipe makes of a data set."""
