"""Services of training from nothing."""
