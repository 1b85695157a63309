"""The reference text's tables and its figure as experiments: `fastpipe-train study table4`."""
