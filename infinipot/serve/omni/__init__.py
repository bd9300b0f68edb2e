"""`/v1/video/chat/stream`: the socket of vllm-omni, frames and questions in, text out."""
