"""llama.cpp in this process: GGUF models."""
