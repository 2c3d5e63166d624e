"""What every command says on the console: its words, its help, what it prints."""
