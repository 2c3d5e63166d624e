"""One file a network from the tokens of texts to raw vectors; for runs that train their text side.

Such a file has, besides `Config` and `build(config)`:

- `tokenizer(config, captions) -> Tokenizer`: what turns texts into its tokens, trained on the
  captions or found;
- `fitted(config, tokenizer) -> Config`: the options with what the tokenizer decides filled in;
- `rebuild(config) -> nn.Module`: the tower of a saved model, whose weights are in the model's own
  file. Its options are a stranger's: nothing else is read, no hub is asked.

What is built takes tokens int [c t], in which -1 pads a shorter text, and gives one raw vector
[c width] a text that does not depend on the padding or on other texts. It has `width`, `context`
(tokens of a text at most) and `config`: options from which `rebuild` makes it again.
"""
