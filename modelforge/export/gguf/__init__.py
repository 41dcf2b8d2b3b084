"""Write GGUF files: metadata, tokenizer and tensors in llama.cpp's layout and quantization."""
