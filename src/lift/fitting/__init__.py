"""Linear maps between spaces, fitted in one pass: heads, bridges, moves."""
