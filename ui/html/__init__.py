"""HTML elements, components, formatting, charts and layout."""
