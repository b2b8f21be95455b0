"""From dataset metadata to a trained model file."""
