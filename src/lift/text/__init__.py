"""The fixed side: text encoders and the identity of their space."""
