"""A server of pictures: the OpenAI images interface over pipelines whose requests are batched."""
