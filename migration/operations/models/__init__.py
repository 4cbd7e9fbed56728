"""What can be found out about models from the vectors that stand there: whose they are, and how far two agree."""
