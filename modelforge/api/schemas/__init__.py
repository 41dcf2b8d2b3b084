"""Request and response models of the REST interface."""
