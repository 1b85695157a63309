"""What the model will see: some images of a loader, each with its operations."""
