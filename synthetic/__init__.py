"""A drawn world of people at work, with planted stereotypes, for demonstrations and tests."""

from synthetic.captions import write_caption
from synthetic.pictures import draw_picture
from synthetic.shards import write_shards
from synthetic.world import OCCUPATIONS, PictureSpec, WorldSettings, plan_pictures

__all__ = [
    "OCCUPATIONS",
    "PictureSpec",
    "WorldSettings",
    "draw_picture",
    "plan_pictures",
    "write_caption",
    "write_shards",
]
