"""What is measured on a split: outputs and labels of a whole pass, and the metrics computed from them."""
