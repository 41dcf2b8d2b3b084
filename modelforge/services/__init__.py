"""What the front door hands on: one desk a matter."""
