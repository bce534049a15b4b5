"""How the suite itself works: which tests are run when, and what they say that they show."""
