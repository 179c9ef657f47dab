"""Demo data for Conduit: four people, their articles, and their reactions to them."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import select

from conduit.services.layer import ConduitManager
from conduit.services.tables import ArticleRow, CommentRow, FavoriteRow, FollowRow, TagRow, UserRow, now

PASSWORD = "conduit-demo"
"""The password of all users."""

BIOS = {
    "ann": "Brews tea, keeps bees, writes about both.",
    "bob": "Backend developer in a small town with a large river.",
    "chioma": "Walks cities at night and draws maps of what is open.",
    "dmitri": "Repairs radios that are older than he is.",
}


class Story(NamedTuple):
    """An article, with its tags, fans and comments."""

    author: str
    title: str
    description: str
    body: str
    tags: tuple[str, ...] = ()
    fans: tuple[str, ...] = ()
    comments: tuple[tuple[str, str], ...] = ()


STORIES = [  # oldest first
    Story(
        "dmitri",
        "The hum was the fridge",
        "Three evenings with an oscilloscope, and a lesson in asking simple questions first.",
        "The radio hummed at 50 Hz, so I suspected the capacitors, replaced all of them, and it hummed.\n\n"
        "On the third evening the power went out in the kitchen. The radio, which runs on batteries, fell silent. "
        "I have moved the fridge. The new capacitors are very nice.",
        ("radio", "debugging"),
        ("ann", "bob", "chioma"),
        (("bob", "I have had exactly this bug, but in production."), ("ann", "Did the fridge have a name?")),
    ),
    Story(
        "ann",
        "How long to steep a green tea",
        "Two minutes, says the packet. The packet is wrong in both directions.",
        "1. Water of 70 degrees, no more.\n2. Ninety seconds, then *taste*.\n3. Every further ten seconds buy strength and "
        "cost sweetness.\n\n"
        "Pour the second cup with hotter water and half the time: the leaves are open already.",
        ("tea", "kitchen"),
        ("chioma", "dmitri"),
        (("dmitri", "What if I like it bitter?"), ("ann", "Then have coffee, Dmitri.")),
    ),
    Story(
        "chioma",
        "Open at four in the morning",
        "A map of every place in the old town where one can sit down before sunrise.",
        "There are eleven: two bakeries, a laundry with a bench, the station, five taxi stands with a stove, the "
        "hospital's canteen, and a church that nobody remembers to lock.\n\nThe bakeries have the better light.",
        ("maps", "night"),
        ("ann",),
        (("bob", "The laundry has closed, I am sorry to say."),),
    ),
    Story(
        "bob",
        "Your retry loop is a load test",
        "What happens when a thousand clients are told to try again in one second.",
        "They all try again in one second.\n\n"
        "```python\nwhile not answered:\n    time.sleep(1)  # so do the other 999\n    answered = ask()\n```\n\n"
        "Wait for a random time that grows, give up after a few, and say so. The database that is down at the moment "
        "will thank you by coming up again.",
        ("backend", "databases"),
        ("dmitri", "ann"),
        (("dmitri", "The fridge does the same after a blackout."),),
    ),
    Story(
        "ann",
        "Bees do not read the calendar",
        "The first flight of the year, and why the hive was right and the almanac wrong.",
        "It was four weeks too early and eleven degrees. They flew for an hour, came back, and have not been seen since.\n\n"
        "I had not even cleaned the smoker.",
        ("bees", "garden"),
        ("chioma",),
    ),
    Story(
        "bob",
        "An answer should tell the truth",
        "If the page says 'saved', it had better be saved.",
        "A web framework sends the status when the view returns. Many of them commit after that. In between lies the "
        "moment in which a disk is full, a constraint is violated, a connection is lost, and the user has already read 'saved'.\n\n"
        "> Commit first. Then speak.",
        ("backend", "databases"),
        ("ann", "chioma", "dmitri"),
        (("chioma", "I drew a map of that moment once."), ("ann", "Same with tea: taste first.")),
    ),
    Story(
        "dmitri",
        "A valve is a light bulb with ambitions",
        "An introduction to tubes for people who were born after them.",
        "Heat a wire in a vacuum and electrons leave it. Put a grid in their way and a whisper on the grid steers a shout.\n\n"
        "Everything else is plumbing.",
        ("radio",),
        ("bob",),
    ),
    Story(
        "chioma",
        "Walking the river at low water",
        "For two days a year there is a path that no map has.",
        "It begins below the third bridge and needs boots. Under the wall of the mill stand the marks of all floods since "
        "1784, and above the highest one somebody has drawn a cup of tea.",
        ("maps", "walks"),
        ("bob", "ann"),
        (("ann", "It was not me."), ("bob", "It was her.")),
    ),
]

FOLLOWS = [("ann", "bob"), ("ann", "chioma"), ("bob", "ann"), ("bob", "dmitri"), ("chioma", "ann"), ("dmitri", "bob")]


def seed(dm: ConduitManager) -> None:
    """Fill an empty database; one that has users is left unchanged."""
    with dm.context() as ctx:
        db = ctx.db
        if db.scalar(select(UserRow.id).limit(1)) is not None:
            return
        password_hash = ctx.passwords.hash(PASSWORD)
        users = {
            name: UserRow(username=name, email=f"{name}@example.org", password_hash=password_hash, bio=bio)
            for name, bio in BIOS.items()
        }
        db.add_all(users.values())
        db.flush()
        ids = {name: user.id for name, user in users.items()}
        db.add_all(FollowRow(follower_id=ids[follower], followed_id=ids[followed]) for follower, followed in FOLLOWS)
        for age, story in zip(range(len(STORIES), 0, -1), STORIES, strict=True):
            published = now() - timedelta(days=3 * age, hours=5 * age)
            article = ArticleRow(
                author_id=ids[story.author],
                title=story.title,
                description=story.description,
                body=story.body,
                created_at=published,
                updated_at=published,
                tags=[TagRow(name=tag) for tag in story.tags],
            )
            db.add(article)
            db.flush()
            db.add_all(FavoriteRow(user_id=ids[fan], article_id=article.id) for fan in story.fans)
            for hours, (author, body) in enumerate(story.comments, 1):
                said = published + timedelta(hours=hours)
                db.add(
                    CommentRow(
                        article_id=article.id, author_id=ids[author], body=body, created_at=said, updated_at=said
                    )
                )
