"""A script's own data set lifted by proof: our host half as its transform, and a check of every sample."""
