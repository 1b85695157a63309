"""The commands of `fastpipe-profile` besides `run`, and what all of them share: options, console, ending."""
