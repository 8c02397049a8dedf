"""Write docs/api.md from the docstrings: `python tools/api_page.py`; `--check` says whether it is as it would be written, by exit status 1.

Sources are read, not run, so the page is the same whatever Python writes it and whatever is compiled.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "api.md"
WIDTH: Final = 110
HEAD: Final = """\
# Every public name

Written by `tools/api_page.py` from the docstrings; change them, not this page. All names are in `pgpool_core`. What they are for:
[open_pool](pool.md), [the pooler inside a program](embedding.md), [settings](config.md).
"""
GROUPS: Final = {
    "Queries from trio": "open_pool Pool Connection Record Range Notification Reconnected PoolStatistics",
    "A pooler inside a program": (
        "open_proxy serve Proxy run_proxy_in_thread ThreadedProxy open_proxy_asyncio AsyncioProxy run_proxy_process ProcessProxy"
        " Reachable ProxyAddress django_database Snapshot"
    ),
    "Configuration": "load_config parse_config Config DatabaseConfig UserConfig",
    "Errors": (
        "PgPoolError ConfigError ConfigProblem PostgresError ConnectionLost DecodeError EncodeError PoolError PoolClosed PoolTimeout"
        " QueryWaitTimeout TooManyClients ServerUnavailable ServerLoginRefused ServerProtocolError ClientProtocolError LoginError"
        " BadPassword LoginTimeout InternalError"
    ),
}
HANDED_OUT: Final = {
    "Transaction": "client.transaction",
    "Cursor": "client.cursor",
    "Pipeline": "client.pipeline",
    "CopySink": "client.copying",
    "CopySource": "client.copying",
    "CommandTag": "client.values",
    "SessionFeatures": "metrics.features",
    "CommandRefused": "errors",
}
"""What the others return or raise, and a program need not import."""
SETTINGS_ELSEWHERE: Final = frozenset({"Config", "DatabaseConfig", "UserConfig"})
"""Their attributes are the settings, which have a page of their own."""
UNNAMED: Final = frozenset({"__version__"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Sources:
    """Modules of the package, parsed once each; a compiled one by its stub, with the docstrings of its source."""

    def __init__(self) -> None:
        self._parsed: dict[str, ast.Module] = {}

    def module(self, name: str) -> ast.Module:
        """`config.model` and its like."""
        if name not in self._parsed:
            path = ROOT.joinpath("pgpool_core", *name.split("."))
            found = next(
                each
                for each in (path.with_suffix(".py"), path.with_suffix(".pyi"), path / "__init__.py")
                if each.exists()
            )
            self._parsed[name] = ast.parse(found.read_text())
            if found.suffix == ".pyi":
                document(self._parsed[name], ROOT.joinpath("pyx", "pgpool_core", *name.split(".")).with_suffix(".pyx"))
        return self._parsed[name]

    def homes(self) -> dict[str, str]:
        """Public names and the modules that they live in."""
        (value,) = (
            node.value
            for node in self.module("").body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES"
        )
        named: dict[str, str] = ast.literal_eval(value)
        (public,) = (
            node.value
            for node in self.module("").body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        )
        return {name: named.get(name, "errors") for name in ast.literal_eval(public)}

    def node(self, name: str, module: str) -> ast.ClassDef | Function:
        """The definition of `name`, or what its module has imported it from."""
        for node in self.module(module).body:
            if isinstance(node, ast.ClassDef | Function) and node.name == name:
                return node
        return self.node(name, self._origin(name, module))

    def _origin(self, name: str, module: str) -> str:
        for node in ast.walk(self.module(module)):
            if isinstance(node, ast.ImportFrom) and node.module and any(each.name == name for each in node.names):
                return node.module.removeprefix("pgpool_core.")
        raise LookupError(f"{name} is neither defined nor imported in {module}")

    def bases(self, node: ast.ClassDef, module: str) -> Iterator[tuple[ast.ClassDef, str]]:
        """The classes of ours that it derives from, nearest first."""
        for base in node.bases:
            name = ast.unparse(base).partition("[")[0]
            try:
                found = self.node(name, module)
            except (LookupError, StopIteration):
                continue  # not of ours
            home = module if found in self.module(module).body else self._origin(name, module)
            if isinstance(found, ast.ClassDef):
                yield found, home
                yield from self.bases(found, home)


_COMPILED: Final = re.compile(r'^( *)(cdef class|def) (\w+)[^\n]*:\n(?: +"""(.*?)""")?', re.DOTALL | re.MULTILINE)


def document(stub: ast.Module, source: Path) -> None:
    """Put the docstrings of a compiled module into the classes of its stub."""
    texts: dict[str, str | None] = {}
    owner = ""
    for indent, kind, name, text in _COMPILED.findall(source.read_text()):
        owner = name if kind == "cdef class" else owner if indent else ""
        texts[name if owner in ("", name) else f"{owner}.{name}"] = text
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            described(node, texts.get(node.name))
            for member in node.body:
                if isinstance(member, Function):
                    described(member, texts.get(f"{node.name}.{member.name}"))


def described(node: ast.ClassDef | Function, text: str | None) -> None:
    """Give a definition of a stub its docstring."""
    if text:
        node.body.insert(0, ast.Expr(ast.Constant(text)))


def page() -> str:
    """The whole page.

    Raises:
        LookupError: a public name stands in no group, or in two, or has no docstring.
    """
    sources = Sources()
    homes = sources.homes()
    grouped = [name for names in GROUPS.values() for name in names.split()]
    if sorted(grouped) != sorted(set(homes) - UNNAMED):
        raise LookupError(f"public names and those in GROUPS differ: {set(grouped) ^ (set(homes) - UNNAMED)}")
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [entry(sources, name, homes[name], set(homes)) for name in names.split()]
    parts.append("## Returned or raised by these\n\nOf the modules named.\n")
    parts += [entry(sources, name, module, set(homes)) for name, module in HANDED_OUT.items()]
    return "\n".join(parts)


def entry(sources: Sources, name: str, module: str, public: set[str]) -> str:
    """A function, or a class with its members."""
    node = sources.node(name, module)
    if isinstance(node, Function):
        return f"### {name}\n\n{code(signature(node))}\n{prose(docstring(node, name))}"
    bases = list(sources.bases(node, module))
    nearest = next((base.name for base, _ in bases if base.name in public), None)
    parts = [f"### {name}\n"]
    if name in HANDED_OUT:
        parts.append(f"`pgpool_core.{module}.{name}`\n")
    if nearest is not None:
        parts.append(f"A [{nearest}](#{nearest.lower()}).\n")
    parts.append(prose(docstring(node, name)))
    shown = [node, *(base for base, _ in bases if base.name not in public)]
    if name not in SETTINGS_ELSEWHERE:
        parts += [line for owner in shown for line in attributes(owner)]
    seen = set[str]()
    for member in (member for owner in shown for member in owner.body):
        if isinstance(member, Function) and member.name not in seen and is_shown(member):
            seen.add(member.name)
            parts.append(
                f"- `{signature(member, of_class=True)}`\n  {brief(docstring(member, f'{name}.{member.name}'))}"
            )
    return "\n".join(parts).rstrip() + "\n"


def is_shown(member: Function) -> bool:
    """Whether a method is one for users."""
    hidden = {"forget_in_child", "start", "end", "finish", "submit", "running", "of", "way"}
    decorated = {ast.unparse(each) for each in member.decorator_list}
    is_setter = any(each.endswith((".setter", ".validator", ".default")) for each in decorated)
    return not member.name.startswith("_") and member.name not in hidden and not is_setter


def attributes(node: ast.ClassDef) -> Iterator[str]:
    """The fields of a value, with what stands behind each."""
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if (
            not isinstance(field, ast.AnnAssign)
            or not isinstance(field.target, ast.Name)
            or field.target.id.startswith("_")
        ):
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            text = f": {joined(after.value.value)}"
        yield f"- `{field.target.id}: {ast.unparse(field.annotation)}`{text}"


def signature(node: Function, *, of_class: bool = False) -> str:
    """How it is called: `async with name(...) as Type`, `await name(...) -> Type`, ..."""
    decorated = {ast.unparse(each) for each in node.decorator_list}
    returns = ast.unparse(node.returns) if node.returns is not None else ""
    if "property" in decorated:
        return f"{node.name}: {returns}"
    words = list(parameters(node.args))
    if of_class and "staticmethod" not in decorated:
        words = words[1:]  # self, cls
        if words[:1] == ["/"]:
            words = words[1:]
    before, after = "", f" -> {returns}"
    blocks = {each.partition("(")[0] for each in decorated} & {"async_block", "sync_block"}
    if blocks:
        before = "async with " if "async_block" in blocks else "with "
        after = f" as {returns.partition('[')[2].removesuffix(']')}"
    elif isinstance(node, ast.AsyncFunctionDef):
        before = "await "
    if after == " -> None":
        after = ""
    line = f"{before}{node.name}({', '.join(words)}){after}"
    if len(line) <= WIDTH or of_class:
        return line
    return f"{before}{node.name}(\n" + "".join(f"    {word},\n" for word in words) + f"){after}"


def parameters(arguments: ast.arguments) -> Iterator[str]:
    """Each parameter with its type and default."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults))
    for number, (each, default) in enumerate(zip(plain, [*defaults, *arguments.defaults], strict=True), start=1):
        yield parameter(each, default)
        if number == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg is not None:
        yield f"*{parameter(arguments.vararg, None)}"
    elif arguments.kwonlyargs:
        yield "*"
    for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if each.arg != "task_status":  # of the nursery
            yield parameter(each, default)
    if arguments.kwarg is not None:
        yield f"**{parameter(arguments.kwarg, None)}"


def parameter(each: ast.arg, default: ast.expr | None) -> str:
    """`name: type = default`."""
    kind = f": {ast.unparse(each.annotation)}" if each.annotation is not None else ""
    if default is None:
        return each.arg + kind
    return f"{each.arg}{kind} = {ast.unparse(default)}" if kind else f"{each.arg}={ast.unparse(default)}"


def code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def docstring(node: ast.ClassDef | Function, name: str) -> str:
    """Its docstring.

    Raises:
        LookupError: it has none.
    """
    if (text := ast.get_docstring(node)) is None:
        raise LookupError(f"{name} has no docstring")
    return text


_HEADING: Final = re.compile(r"(Args|Raises|Attributes|Source|Sources):(.*)\Z", re.DOTALL)


def paragraphs(text: str) -> list[str]:
    return re.split(r"\n\s*\n|\n(?=(?:Args|Raises|Attributes|Sources?):)", text)


def prose(text: str) -> str:
    """A docstring as Markdown: paragraphs, and lists of arguments, attributes and errors."""
    parts = []
    for paragraph in paragraphs(text):
        heading = _HEADING.match(paragraph)
        if heading is None:
            parts.append(joined(paragraph))
        elif not heading[1].startswith("Source"):
            parts.append("\n".join([f"{heading[1]}:\n", *(f"- {each}" for each in items(heading[2]))]))
    return "\n\n".join(part for part in parts if part) + "\n"


def brief(text: str) -> str:
    """A docstring as one paragraph, for a member in a list."""
    words = []
    for paragraph in paragraphs(text):
        heading = _HEADING.match(paragraph)
        if heading is None:
            words.append(joined(paragraph))
        elif heading[1] == "Raises":
            words.append(f"Raises {' '.join(items(heading[2]))}")
        elif not heading[1].startswith("Source"):
            words += items(heading[2])
    return " ".join(words)


def items(text: str) -> Iterator[str]:
    """`name: what`, each from one line with the smallest indent to the next."""
    lines = [line for line in text.split("\n") if line.strip()]
    least = min(len(line) - len(line.lstrip()) for line in lines)
    item: list[str] = []
    for line in lines:
        if item and len(line) - len(line.lstrip()) == least:
            yield marked(item)
            item = []
        item.append(line.strip())
    yield marked(item)


def marked(lines: list[str]) -> str:
    """An item with its name as code."""
    name, colon, what = joined(" ".join(lines)).partition(": ")
    return f"`{name}`: {what}" if colon and re.fullmatch(r"[\w, ]+", name) else joined(" ".join(lines))


def joined(text: str) -> str:
    return " ".join(text.split())


def main() -> int:
    """0, or 1 where `--check` finds the page out of date."""
    wanted = page()
    if "--check" in sys.argv[1:]:
        return int(not PAGE.exists() or PAGE.read_text() != wanted)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
