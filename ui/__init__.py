"""The web interface: pages in Gradio, their routes and their contract with the browser."""
