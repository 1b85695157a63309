"""What a trained model says about images: probabilities, and how right and how sure they are."""
