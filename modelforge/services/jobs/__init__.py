"""Jobs of a home in processes of their own, one at a time: what exports and evaluations share."""
