"""File items: data that stays files (texts, vectors, weights), by name."""

from ddl.data.files.airline import AIRLINE
from ddl.data.files.glove import GLOVE
from ddl.data.files.imagenet_weights import EFFICIENTNET_B0, LITE0, VGG16
from ddl.data.files.imdb import IMDB
from ddl.data.files.plays import PLAYS
from ddl.data.files.reviews import REVIEWS

FILE_ITEMS = {item.name: item for item in (AIRLINE, EFFICIENTNET_B0, GLOVE, IMDB, LITE0, PLAYS, REVIEWS, VGG16)}
