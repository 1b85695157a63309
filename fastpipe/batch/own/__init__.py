"""A script's own data set, lifted by proof: our host half in place of its transform, checked at every sample."""
