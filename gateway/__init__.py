"""One OpenAI-compatible base_url in front of the models you run yourself."""
