"""An application of Django: notes."""
