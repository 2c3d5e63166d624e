"""Image towers in language models: a connector, two stages of training, questions about scenes."""
