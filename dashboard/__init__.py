"""The page that shows what the cameras saw and whether the service keeps up: `make dashboard`."""
