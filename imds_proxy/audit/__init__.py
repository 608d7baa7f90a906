"""Who was given which credentials, and who was refused: one line each."""
