"""Growing a model of Transformers stack by stack: new layers, freezing, adapters, masks."""
