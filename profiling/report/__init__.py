"""The report of a profile: as values, in the terminal, as a page, as a trace, as an exit status."""
