"""IMDB film reviews (Maas et al., Learning Word Vectors for Sentiment Analysis, 2011): 25,000 + 25,000, half of each positive.

The item is the official archive itself, which contains one file per review. The fallback is `reviews`.
"""

from ddl.data.recipe import FileRecipe

IMDB = FileRecipe(
    name="imdb",
    file="aclImdb_v1.tar.gz",
    checksum="md5:7c2ac02c03563afcf9b574c7e56c153a",
    urls=("https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",),
    max_bytes=128 << 20,
    fallback="reviews",
)
