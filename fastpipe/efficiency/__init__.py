"""What training cost and what it reached, compared: times, frontiers, savings, and the published figures."""
