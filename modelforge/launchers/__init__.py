"""Runs that train elsewhere: targets, what is sent there, and the relay that follows them."""
