"""A to-do list in the style of FastAPI's tutorial and its full-stack template: nothing of us.

Logins are JWTs of `sub` and `exp` and nothing else, signed with PyJWT by hand. Password resets
are signed with the same secret. A bad token is answered 403, a deleted user's 404, an inactive
one's 400.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Annotated, Any, TypeAlias

import jwt
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pydantic import BaseModel

ALGORITHM = "HS256"
ACCESS_TOKEN_EXPIRE = timedelta(days=8)
RESET_TOKEN_EXPIRE = timedelta(hours=48)

password_hash = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
oauth2_scheme = OAuth2PasswordBearer(tokenUrl="/token")
router = APIRouter()


@dataclass
class User:
    id: int
    email: str
    hashed_password: str
    is_active: bool = True
    is_superuser: bool = False


@dataclass
class Item:
    id: int
    title: str
    owner_id: int


@dataclass
class Database:
    """What a real app keeps in tables; it outlives the process that serves it."""

    users: dict[int, User] = field(default_factory=dict)
    items: dict[int, Item] = field(default_factory=dict)
    outbox: list[tuple[str, str]] = field(default_factory=list)
    numbers: Callable[[], int] = field(default_factory=lambda: count(1).__next__)

    def by_email(self, email: str) -> User | None:
        return next((user for user in self.users.values() if user.email == email), None)

    def add_user(self, email: str, password: str, **more: bool) -> User:
        user = User(self.numbers(), email, password_hash.hash(password), **more)
        self.users[user.id] = user
        return user


class Token(BaseModel):
    access_token: str
    token_type: str = "bearer"


class UserPublic(BaseModel):
    id: int
    email: str
    is_active: bool
    is_superuser: bool


class ItemPublic(BaseModel):
    id: int
    title: str
    owner_id: int


class SignUp(BaseModel):
    email: str
    password: str


class NewPassword(BaseModel):
    token: str
    new_password: str


class NewItem(BaseModel):
    title: str


def create_app(database: Database, secret_key: str) -> FastAPI:
    app = FastAPI()
    app.state.database = database
    app.state.secret_key = secret_key
    app.include_router(router)
    return app


def get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def get_secret(request: Request) -> str:
    return str(request.app.state.secret_key)


Db: TypeAlias = Annotated[Database, Depends(get_database)]
Secret: TypeAlias = Annotated[str, Depends(get_secret)]


def create_access_token(subject: int, secret: str) -> str:
    expires = datetime.now(UTC) + ACCESS_TOKEN_EXPIRE
    return jwt.encode({"exp": expires, "sub": str(subject)}, secret, algorithm=ALGORITHM)


def create_reset_token(email: str, secret: str) -> str:
    now = datetime.now(UTC)
    claims = {"exp": now + RESET_TOKEN_EXPIRE, "nbf": now, "sub": email}
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


def user_of(token: str, database: Database, secret: str) -> User:
    try:
        payload = jwt.decode(token, secret, algorithms=[ALGORITHM])
    except jwt.InvalidTokenError:
        raise HTTPException(403, "Could not validate credentials") from None
    subject = str(payload.get("sub"))
    user = database.users.get(int(subject)) if subject.isdecimal() else None
    if user is None:
        raise HTTPException(404, "User not found")
    if not user.is_active:
        raise HTTPException(400, "Inactive user")
    return user


def get_current_user(
    token: Annotated[str, Depends(oauth2_scheme)], database: Db, secret: Secret
) -> User:
    return user_of(token, database, secret)


CurrentUser: TypeAlias = Annotated[User, Depends(get_current_user)]


def get_current_superuser(user: CurrentUser) -> User:
    if not user.is_superuser:
        raise HTTPException(403, "The user doesn't have enough privileges")
    return user


@router.get("/")
def health_check() -> bool:
    return True


@router.post("/token")
def login(
    form: Annotated[OAuth2PasswordRequestForm, Depends()], database: Db, secret: Secret
) -> Token:
    user = database.by_email(form.username)
    if user is None or not password_hash.verify(form.password, user.hashed_password):
        raise HTTPException(400, "Incorrect email or password")
    if not user.is_active:
        raise HTTPException(400, "Inactive user")
    return Token(access_token=create_access_token(user.id, secret))


@router.post("/token/test", response_model=UserPublic)
def test_token(user: CurrentUser) -> Any:
    return user


@router.post("/password-recovery/{email}")
def recover_password(email: str, database: Db, secret: Secret) -> dict[str, str]:
    if database.by_email(email) is None:
        raise HTTPException(404, "The user with this email does not exist in the system.")
    database.outbox.append((email, create_reset_token(email, secret)))
    return {"message": "Password recovery email sent"}


@router.post("/reset-password/")
def reset_password(body: NewPassword, database: Db, secret: Secret) -> dict[str, str]:
    try:
        payload = jwt.decode(body.token, secret, algorithms=[ALGORITHM])
    except jwt.InvalidTokenError:
        raise HTTPException(400, "Invalid token") from None
    user = database.by_email(str(payload["sub"]))
    if user is None:
        raise HTTPException(404, "The user with this email does not exist in the system.")
    user.hashed_password = password_hash.hash(body.new_password)
    return {"message": "Password updated successfully"}


@router.post("/users/signup", response_model=UserPublic)
def register(body: SignUp, database: Db) -> Any:
    if database.by_email(body.email) is not None:
        raise HTTPException(400, "The user with this email already exists in the system")
    return database.add_user(body.email, body.password)


@router.get("/users/", response_model=list[UserPublic])
def read_users(database: Db, _: Annotated[User, Depends(get_current_superuser)]) -> Any:
    return list(database.users.values())


@router.get("/users/me", response_model=UserPublic)
def read_user_me(user: CurrentUser) -> Any:
    return user


@router.delete("/users/me")
def delete_user_me(user: CurrentUser, database: Db) -> dict[str, str]:
    if user.is_superuser:
        raise HTTPException(403, "Super users are not allowed to delete themselves")
    del database.users[user.id]
    return {"message": "User deleted successfully"}


@router.get("/items/", response_model=list[ItemPublic])
def read_items(user: CurrentUser, database: Db) -> Any:
    return [item for item in database.items.values() if item.owner_id == user.id]


@router.post("/items/", response_model=ItemPublic)
def create_item(body: NewItem, user: CurrentUser, database: Db) -> Any:
    item = Item(database.numbers(), body.title, user.id)
    database.items[item.id] = item
    return item


@router.get("/items/{item_id}", response_model=ItemPublic)
def read_item(item_id: int, user: CurrentUser, database: Db) -> Any:
    item = database.items.get(item_id)
    if item is None:
        raise HTTPException(404, "Item not found")
    if not user.is_superuser and item.owner_id != user.id:
        raise HTTPException(403, "Not enough permissions")
    return item


@router.websocket("/live")
async def live(websocket: WebSocket) -> None:
    token = websocket.headers.get("authorization", "").removeprefix("Bearer ")
    state = websocket.app.state
    try:
        user = user_of(token, state.database, state.secret_key)
    except HTTPException:
        await websocket.close(1008)
        return
    await websocket.accept()
    await websocket.send_json({"email": user.email})
    await websocket.close()
