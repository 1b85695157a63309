"""Classification data sets of torchvision that are neither folders nor lists of ours."""
