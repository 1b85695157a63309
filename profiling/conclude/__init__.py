"""From measurements to a verdict: models of the rates, fixes with their gains, predictions, words."""
