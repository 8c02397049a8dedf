"""SQLAlchemy in transaction mode as it is, with a pool of its own: psycopg synchronously, asyncpg asynchronously."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, Enum, ForeignKey, MetaData, String, create_engine, func, inspect, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from tests.conftest import Target
from tests.crowd import crowd, turns

pytestmark = [
    pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True),
    pytest.mark.pooler(default_pool_size=2),
]


class Size(enum.Enum):
    small = "small"
    large = "large"


class Base(DeclarativeBase):
    metadata = MetaData(schema="alchemy")


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    size: Mapped[Size] = mapped_column(Enum(Size, name="size", schema="alchemy"))
    tags: Mapped[list[str]] = mapped_column(ARRAY(String))
    books: Mapped[list[Book]] = relationship(back_populates="shelf", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    shelf_id: Mapped[int] = mapped_column(ForeignKey("alchemy.shelf.id"))
    shelf: Mapped[Shelf] = relationship(back_populates="books")


@contextmanager
def tables(target: Target, driver: str) -> Iterator[str]:
    """The tables, made and dropped through where the test connects; its URL for `driver`."""
    url = target.url("app", "app").replace("postgresql:", f"postgresql+{driver}:", 1)
    engine = create_engine(url.replace("asyncpg", "psycopg"))
    with engine.begin() as connection:
        connection.execute(text("create schema alchemy"))
        Base.metadata.create_all(connection)
    try:
        yield url
    finally:
        with engine.begin() as connection:
            connection.execute(text("drop schema alchemy cascade"))
        engine.dispose()


def shelf(client: int, number: int) -> Shelf:
    books = [Book(title=f"{client}.{number}.{n}") for n in range(3)]
    return Shelf(name=f"{client}.{number}", size=Size.large, tags=["a", str(number)], books=books)


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    engine = create_engine(url, pool_size=4, max_overflow=2, pool_pre_ping=True, connect_args={"prepare_threshold": 0})
    try:
        yield engine
    finally:
        engine.dispose()


def test_sessions_with_objects(target: Target) -> None:
    with tables(target, "psycopg") as url, engine_of(url) as engine:

        def use(client: int) -> None:
            for number in range(5):
                with Session(engine) as session:
                    session.add_all([shelf(client, number)])
                    session.flush()
                    with pytest.raises(IntegrityError), session.begin_nested():
                        session.add(shelf(client, number))
                    session.commit()
                    found = session.scalars(
                        select(Shelf).where(Shelf.name == f"{client}.{number}").options(selectinload(Shelf.books))
                    ).one()
                    assert (found.size, found.tags, len(found.books)) == (Size.large, ["a", str(number)], 3)
                    found.books.pop()
                    session.commit()

        crowd(6, use)
        with Session(engine) as session:
            assert session.scalar(select(func.count()).select_from(Book)) == 6 * 5 * 2


def test_many_rows_at_once_and_streamed(target: Target) -> None:
    with tables(target, "psycopg") as url, engine_of(url) as engine:

        def use(client: int) -> None:
            with Session(engine) as session:
                rows = [{"name": f"{client}.{n}", "size": Size.small, "tags": []} for n in range(300)]
                ids = session.scalars(insert(Shelf).returning(Shelf.id), rows).all()
                assert len(set(ids)) == 300
                again = insert(Shelf).values(rows[:10]).on_conflict_do_nothing()
                assert session.scalars(again.returning(Shelf.id)).all() == []
                session.commit()
                streamed = session.scalars(
                    select(Shelf.name).where(Shelf.name.startswith(f"{client}.")), execution_options={"yield_per": 25}
                )
                assert sum(len(part) for part in streamed.partitions()) == 300

        crowd(4, use)


def test_isolation_levels_and_settings(target: Target) -> None:
    with tables(target, "psycopg") as url, engine_of(url) as engine, turns(target.url("app", "app")) as turn:
        serial = engine.execution_options(isolation_level="SERIALIZABLE")
        at_once = engine.execution_options(isolation_level="AUTOCOMMIT")
        for _ in range(3):
            with serial.connect() as connection:
                assert connection.scalar(text("show transaction_isolation")) == "serializable"
            turn()
            with at_once.connect() as connection:
                connection.execute(text("set statement_timeout = '77s'"))
                turn()
                assert connection.scalar(text("show statement_timeout")) == "77s"
                connection.execute(text("reset statement_timeout"))
                turn()
                assert connection.scalar(text("show statement_timeout")) == "0"
            with engine.begin() as connection:
                assert connection.scalar(text("show transaction_isolation")) == "read committed"
                connection.execute(text("create temp table passing(a int) on commit drop"))
                connection.execute(text("insert into passing values (1)"))
            turn()


def test_reflection(target: Target) -> None:
    with tables(target, "psycopg") as url, engine_of(url) as engine:

        def use(_: int) -> None:
            seen = inspect(engine)
            assert sorted(seen.get_table_names("alchemy")) == ["book", "shelf"]
            assert [kind["name"] for kind in seen.get_enums("alchemy")] == ["size"]
            copy = MetaData()
            copy.reflect(engine, schema="alchemy")
            assert set(copy.tables["alchemy.shelf"].columns.keys()) == {"id", "name", "size", "tags"}

        crowd(4, use)


def test_asynchronously(target: Target) -> None:
    async def run(url: str) -> None:
        engine = create_async_engine(url, pool_size=4, max_overflow=4, pool_pre_ping=True)
        sessions = async_sessionmaker(engine, expire_on_commit=False)

        async def use(client: int) -> None:
            for number in range(5):
                async with sessions() as session:
                    session.add(shelf(client, number))
                    await session.commit()
                    with pytest.raises(IntegrityError):
                        async with session.begin_nested():
                            session.add(shelf(client, number))
                            await session.flush()
                    found = await session.scalar(
                        select(Shelf).where(Shelf.name == f"{client}.{number}").options(selectinload(Shelf.books))
                    )
                    assert found is not None
                    assert (found.size, found.tags, len(found.books)) == (Size.large, ["a", str(number)], 3)
                    await session.commit()
            async with engine.connect() as connection:
                rows = await connection.stream(select(Book.title).where(Book.title.startswith(f"{client}.")))
                assert len([row async for row in rows]) == 15
                await connection.rollback()
                await connection.execution_options(isolation_level="REPEATABLE READ")
                assert await connection.scalar(text("show transaction_isolation")) == "repeatable read"

        async with asyncio.TaskGroup() as group:
            for client in range(7):
                group.create_task(use(client))
        async with engine.connect() as connection:
            names = await connection.run_sync(lambda plain: inspect(plain).get_table_names("alchemy"))
            assert sorted(names) == ["book", "shelf"]
        await engine.dispose()

    with tables(target, "asyncpg") as url:
        asyncio.run(run(url))
