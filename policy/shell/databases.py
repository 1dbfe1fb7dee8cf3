"""The clients of SQL databases: their own options and commands, and the SQL they are given. Runs nothing.

A start-up file in the login's home (`.psqlrc`, `.my.cnf`, `.sqliterc`) is the login's own, as `.bashrc` is, which
bash reads before every command; a file that the call itself names is not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from policy.catalog.model import Program
from policy.classes import CommandClass
from policy.shell.effect import Effect, opaque
from policy.shell.mongo import mongo_class
from policy.shell.readers import Reader, in_language, read_and_weigh, with_script
from policy.shell.redis import redis
from policy.shell.rules import Scene, by_operands, worse
from policy.shell.sql import Dialect, sql_class
from policy.shell.words import Word, fixed

_Judge = Callable[[str], CommandClass | None]
# A connection string may hand settings to the server and load libraries, so its keys are listed.
_KEY = (
    r"(?:host|hostaddr|port|dbname|user|password|sslmode|connect_timeout|application_name|target_session_attrs"
    r"|sslrootcert|sslcert|passfile)"
)
_CONNECTION = re.compile(
    rf"[\w.-]*|\s*(?:{_KEY}=[^\s'\\]*\s*)+"
    rf"|postgres(?:ql)?://[^?'\\]*(?:\?{_KEY}=[^&]*(?:&{_KEY}=[^&]*)*)?"
)
# An argument of a backslash command may hold backquotes, which run a command, and variables.
_PSQL_SHOWS = re.compile(
    r"\\(?:(?:d[A-Za-z]*|l|z|sf|sv|dp|dconfig)[S+x]*(?:[ \t]+[\w.*?\"$(), +-]+)?|conninfo|encoding|\?|copyright"
    r"|h(?:elp)?(?:[ \t]+[\w ]+)?|(?:x|t|a|timing)(?:[ \t]+(?:on|off|auto))?|pset[ \t]+\w+(?:[ \t=]+[\w|,]+)?"
    r"|echo[ \t]+[\w .,=-]+)[ \t]*"
)
_PSQL_WRITES = re.compile(r"\\(?:password(?:[ \t]+\w+)?|[ow][ \t]+[\w./-]+)[ \t]*")
_SHELL_COMMAND = re.compile(r"\s*(?:\\!|\.(?:shell|system)\s|system\s)\s*(.*)", re.DOTALL)


def _psql(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """psql: -c is SQL, or one backslash command; a file and its standard input are not read."""
    call, effect = read_and_weigh(program, words, until_operand=False)
    if call.doubt or effect.opaque:
        return effect
    databases = [given.value for given in call.given if given.name in ("-d", "--dbname") and given.value]
    databases += call.operands[:1]
    if not all(word.fixed and _CONNECTION.fullmatch(word.text) for word in databases):
        return worse(effect, opaque("psql.connection", "the connection string may set more than where to connect"))
    scripts = [given.value for given in call.given if given.name in ("-c", "--command") and given.value]
    if not scripts and not call.has("-l", "--list", "-V", "--version", "-?", "--help"):
        return worse(effect, opaque("psql.input", "psql reads its commands from its input"))
    return _all_of(effect, scripts, scene, _psql_class, rule="psql.sql")


def _psql_class(text: str) -> CommandClass | None:
    if not text.startswith("\\"):
        return sql_class(text, Dialect.POSTGRES)
    if _PSQL_WRITES.fullmatch(text):
        return CommandClass.WRITE
    return CommandClass.READ if _PSQL_SHOWS.fullmatch(text) else None


def _all_of(effect: Effect, scripts: Sequence[Word], scene: Scene, judge: _Judge, *, rule: str) -> Effect:
    """Every text in turn; one that is a command of the shell is read as that."""
    for script in scripts:
        shell = _SHELL_COMMAND.fullmatch(script.text) if script.fixed else None
        if shell is not None and shell[1]:
            effect = worse(effect, opaque(rule, "runs a command of the shell"))
            effect = with_script(scene, effect, fixed(shell[1], script.span), dialect="sh")
        else:
            effect = in_language(effect, script, judge, rule=rule)
    return effect


def _mysql(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """mysql: -e is SQL; a word of the client itself (source, system, tee) is no verb that the lexer knows."""
    call, effect = read_and_weigh(program, words, until_operand=False)
    if call.doubt or effect.opaque:
        return effect
    scripts = [given.value for given in call.given if given.name in ("-e", "--execute") and given.value]
    if not scripts and not call.has("-V", "--version", "-?", "--help", "--print-defaults"):
        return worse(effect, opaque(f"{program.name}.input", f"{program.name} reads its commands from its input"))
    return _all_of(effect, scripts, scene, _mysql_class, rule=f"{program.name}.sql")


def _mysql_class(text: str) -> CommandClass | None:
    return sql_class(text, Dialect.MYSQL)


_DOT_SHOWS = re.compile(
    r"\.(?:tables|schema|fullschema|indexes|indices|dump|databases|dbinfo|show|version|help|stats|changes|headers?|mode"
    r"|timeout|width|separator|nullvalue|eqp|bail|echo|quit|exit|limit|sha3sum|timer)(?:\s+[\w%*?.,|+ -]+)?\s*"
)
_DOT_WRITES = re.compile(r"\.(?:backup|save|restore|output|once|log|clone)\s+(?:main\s+)?[\w./][\w./-]*\s*")
# A database that is not there is made, empty: only a name that nothing else has may be opened by a read.
_IS_DATABASE = re.compile(r"(?:.*\.(?:db|sqlite)3?|:memory:)", re.DOTALL)
_FILE_URI = re.compile(
    r"(?!file:).*|file:[^?]*(?:\?(?:mode=(?:ro|rw|rwc|memory)|immutable=1|cache=\w+|&)*)?", re.DOTALL
)


def _sqlite(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """sqlite3: the first operand is the database, each further one SQL or one dot command."""
    call, effect = read_and_weigh(program, words, until_operand=False)
    if call.doubt or effect.opaque:
        return effect
    if call.has("-version", "--version", "-help", "--help"):
        return effect
    first = [given.value for given in call.given if given.name in ("-cmd", "--cmd") and given.value]
    database, scripts = call.operands[:1], call.operands[1:]
    if not scripts:
        return worse(effect, opaque("sqlite3.input", "sqlite3 reads its commands from its input"))
    if not all(_is_file(word) for word in database):
        return worse(effect, opaque("sqlite3.uri", "the name of the database is not read"))
    if not call.has("-readonly", "--readonly") and not all(_IS_DATABASE.fullmatch(word.tail) for word in database):
        effect = effect.at_least(CommandClass.WRITE, "sqlite3.makes", "makes the file if there is none of this name")
    return _all_of(effect, [*first, *scripts], scene, _sqlite_class, rule="sqlite3.sql")


def _is_file(word: Word) -> bool:
    return (
        _FILE_URI.fullmatch(word.text) is not None if word.fixed else word.single and word.head[:1] in ("/", ".", "~")
    )


def _sqlite_class(text: str) -> CommandClass | None:
    if not text.startswith("."):
        return sql_class(text, Dialect.SQLITE)
    if _DOT_WRITES.fullmatch(text):
        return CommandClass.WRITE
    return CommandClass.READ if _DOT_SHOWS.fullmatch(text) else None


def _mongo(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """mongosh: --eval is read; a file, its standard input and its prompt are not."""
    del scene
    call, effect = read_and_weigh(program, words, until_operand=False)
    if call.doubt or effect.opaque or call.has("--version", "--help"):
        return effect
    effect = by_operands(program, call, effect, program.name)
    scripts = [given.value for given in call.given if given.name == "--eval" and given.value]
    if not scripts:
        return worse(effect, opaque("mongo.input", "mongosh reads its commands from its input"))
    for script in scripts:
        effect = in_language(effect, script, mongo_class, rule="mongo.eval")
    return effect


CLIENTS: Mapping[str, Reader] = {"psql": _psql, "mysql": _mysql, "sqlite3": _sqlite, "redis": redis, "mongo": _mongo}
