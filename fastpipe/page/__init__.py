"""Pages in one file, without a network: markup that is escaped by type, colours, head, round axes."""
