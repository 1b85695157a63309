"""What a run leaves and shows: its folder, records, progress, report, trackers."""
