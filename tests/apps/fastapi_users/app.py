"""A diary on fastapi-users with JWTs in a header or in a cookie, as its documentation teaches.

There is nothing of us in it. Users are rows of a SQLAlchemy table, ids are UUIDs; password resets
and e-mail verifications are JWTs of the same secret with an audience of their own.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin, schemas
from fastapi_users.authentication import (
    AuthenticationBackend,
    BearerTransport,
    CookieTransport,
    JWTStrategy,
)
from fastapi_users.db import BaseUserDatabase
from fastapi_users.password import PasswordHelper
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import BaseModel
from sqlalchemy import ForeignKey, String, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

LIFETIME_SECONDS = 3600
hasher = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"

    if TYPE_CHECKING:  # the library's protocol knows no columns
        id: uuid.UUID
        email: str
        hashed_password: str
        is_active: bool
        is_superuser: bool
        is_verified: bool
    else:
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
        email: Mapped[str] = mapped_column(String(320), unique=True, index=True)
        hashed_password: Mapped[str] = mapped_column(String(1024))
        is_active: Mapped[bool] = mapped_column(default=True)
        is_superuser: Mapped[bool] = mapped_column(default=False)
        is_verified: Mapped[bool] = mapped_column(default=False)


class Page(Base):
    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("user.id", ondelete="CASCADE"))
    text: Mapped[str]


class UserRead(schemas.BaseUser[uuid.UUID]):
    pass


class UserCreate(schemas.BaseUserCreate):
    pass


class UserUpdate(schemas.BaseUserUpdate):
    pass


class Written(BaseModel):
    text: str


class Users(BaseUserDatabase[User, uuid.UUID]):
    """fastapi-users' own adapter wants an older SQLAlchemy; this is what it does."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def get(self, id: uuid.UUID) -> User | None:  # noqa: A002 - the library's name
        return await self.session.get(User, id)

    async def get_by_email(self, email: str) -> User | None:
        found = select(User).where(func.lower(User.email) == email.lower())
        return (await self.session.execute(found)).scalar_one_or_none()

    async def create(self, create_dict: dict[str, Any]) -> User:
        return await self.update(User(), create_dict)

    async def update(self, user: User, update_dict: dict[str, Any]) -> User:
        for key, value in update_dict.items():
            setattr(user, key, value)
        self.session.add(user)
        await self.session.commit()
        return user

    async def delete(self, user: User) -> None:
        await self.session.delete(user)
        await self.session.commit()


class Settings(BaseModel):
    """What the diary is deployed with; `outbox` stands for a mail server."""

    database_url: str
    secret: str
    outbox: list[tuple[str, str, str]] = []


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):
    def __init__(self, users: Users, settings: Settings) -> None:
        super().__init__(users, PasswordHelper(PasswordHash((hasher,))))
        self.reset_password_token_secret = settings.secret
        self.verification_token_secret = settings.secret
        self.settings = settings

    async def on_after_forgot_password(
        self,
        user: User,
        token: str,
        request: Request | None = None,  # noqa: ARG002 - the library's hook
    ) -> None:
        self.settings.outbox.append((user.email, "reset", token))

    async def on_after_request_verify(
        self,
        user: User,
        token: str,
        request: Request | None = None,  # noqa: ARG002 - the library's hook
    ) -> None:
        self.settings.outbox.append((user.email, "verify", token))


def get_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


SettingsOf: TypeAlias = Annotated[Settings, Depends(get_settings)]
Db: TypeAlias = Annotated[AsyncSession, Depends(get_session)]


async def get_user_manager(session: Db, settings: SettingsOf) -> UserManager:
    return UserManager(Users(session), settings)


def get_strategy(settings: SettingsOf) -> JWTStrategy[User, uuid.UUID]:
    return JWTStrategy(settings.secret, LIFETIME_SECONDS)


bearer_backend = AuthenticationBackend[User, uuid.UUID](
    "jwt", BearerTransport(tokenUrl="/auth/jwt/login"), get_strategy
)
cookie_backend = AuthenticationBackend[User, uuid.UUID](
    "cookie", CookieTransport(cookie_max_age=LIFETIME_SECONDS), get_strategy
)
auth = FastAPIUsers[User, uuid.UUID](get_user_manager, [bearer_backend, cookie_backend])
Writer: TypeAlias = Annotated[User, Depends(auth.current_user(active=True))]
Verified: TypeAlias = Annotated[User, Depends(auth.current_user(active=True, verified=True))]
Anyone: TypeAlias = Annotated[User | None, Depends(auth.current_user(optional=True))]


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = create_async_engine(settings.database_url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
        yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.state.settings = settings
    app.include_router(auth.get_auth_router(bearer_backend), prefix="/auth/jwt")
    app.include_router(auth.get_auth_router(cookie_backend), prefix="/auth/cookie")
    app.include_router(auth.get_register_router(UserRead, UserCreate), prefix="/auth")
    app.include_router(auth.get_reset_password_router(), prefix="/auth")
    app.include_router(auth.get_verify_router(UserRead), prefix="/auth")
    app.include_router(auth.get_users_router(UserRead, UserUpdate), prefix="/users")

    @app.get("/")
    async def front_page(user: Anyone) -> dict[str, str | None]:
        return {"for": None if user is None else user.email}

    @app.get("/pages")
    async def read_pages(user: Writer, session: Db) -> list[str]:
        found = select(Page.text).where(Page.owner_id == user.id).order_by(Page.id)
        return list((await session.execute(found)).scalars())

    @app.post("/pages", status_code=201)
    async def write_page(body: Written, user: Writer, session: Db) -> dict[str, int]:
        page = Page(owner_id=user.id, text=body.text)
        session.add(page)
        await session.commit()
        return {"id": page.id}

    @app.get("/pages/{page_id}")
    async def read_page(page_id: int, user: Writer, session: Db) -> str:
        page = await session.get(Page, page_id)
        if page is None or page.owner_id != user.id:
            raise HTTPException(404)
        return page.text

    @app.post("/newsletter", status_code=202)
    async def subscribe(user: Verified) -> dict[str, str]:
        return {"to": user.email}

    return app
