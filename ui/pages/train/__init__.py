"""The Train page: data, model, settings and the plan."""
