"""The data plane: what SDKs talk to. Every answer comes from memory."""
