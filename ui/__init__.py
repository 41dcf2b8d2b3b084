"""The face: the only room that knows Gradio."""
