"""What a hospital checks of itself: ``fedmed hospital check``."""
