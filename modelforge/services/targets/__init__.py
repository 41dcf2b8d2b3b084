"""The places that train runs elsewhere."""
