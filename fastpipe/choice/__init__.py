"""Which backend serves a plan on this machine: by capability, then by measurement."""
