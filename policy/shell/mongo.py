"""What `mongosh --eval` does, read by a strict lexer of the few shapes that operators write. Runs nothing.

A text is calls of known methods on the database at hand, with literals for arguments; JavaScript of any other shape
is not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from policy.classes import CommandClass

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\n]+)
      | (?P<string>"[^"\\\n]*"|'[^'\\\n]*')
      | (?P<number>\d+(?:\.\d+)?(?![\w.$]))
      | (?P<name>[A-Za-z_$][\w$]*)
      | (?P<sign>[-.,:;(){}\[\]])""",
    re.VERBOSE | re.ASCII,
)
_HELPER = re.compile(r"\s*(?:show\s+(?:dbs|databases|collections|tables|users|roles|logs|profile)|use\s+\w+)\s*;?\s*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READS = _words("""
aggregate allowDiskUse batchSize comment conf config count countDocuments currentOp dataSize distinct
estimatedDocumentCount explain find findOne getBalancerState getCollection getCollectionInfos getCollectionNames
getIndexes getLogComponents getName getProfilingStatus getReplicationInfo getRoles getSiblingDB getUser getUsers
hasNext hello hint hostInfo isBalancerRunning isCapped isMaster itcount latencyStats limit listCommands
maxTimeMS pretty printReplicationInfo printSecondaryReplicationInfo project projection readPref serverBuildInfo
serverCmdLineOpts serverStatus size skip sort stats status storageSize stringify toArray totalIndexSize
totalSize version
""")
_WRITES = _words("""
add addArb addShard bulkWrite changeUserPassword createCollection createIndex createIndexes createRole
createUser createView deleteMany deleteOne drop dropDatabase dropIndex dropIndexes dropRole dropUser
enableSharding ensureIndex findAndModify findOneAndDelete findOneAndReplace findOneAndUpdate grantRolesToUser
insert insertMany insertOne reconfig remove renameCollection replaceOne revokeRolesFromUser save setLogLevel
setProfilingLevel shardCollection startBalancer stopBalancer update updateMany updateOne updateUser
""")
_STOPS = _words("freeze initiate killOp shutdownServer stepDown")
_FILTERS = _words("find findOne count countDocuments")
_COMMANDS = _words("adminCommand runCommand")
_READING_COMMANDS = _words("""
buildInfo collStats connectionStatus count dbStats distinct getCmdLineOpts getLog getParameter hello hostInfo
isMaster listCollections listCommands listDatabases listIndexes ping replSetGetConfig replSetGetStatus
serverStatus top usersInfo whatsmyuri
""")
_WRAPPERS = _words("print printjson tojson ObjectId ISODate NumberInt NumberLong UUID Timestamp")
_ROOTS = _words("db rs sh JSON EJSON")
_LITERALS = _words("true false null")
_RUNNING_KEYS = _words("$where $function $accumulator mapReduce mapreduce $eval eval")
_KEEPING_KEYS = _words("$out $merge")

Tokens = Sequence[tuple[str, str]]


def mongo_class(text: str) -> CommandClass | None:
    """The highest class of the calls; None if the text is not of the shapes that are read."""
    if _HELPER.fullmatch(text):
        return CommandClass.READ
    tokens, at = [("sign", ";")], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        at = match.end()
        if match.lastgroup != "blank":
            tokens.append((str(match.lastgroup), match[0]))
    tokens += [("sign", ";")] * 4
    levels = [_token_class(tokens, place) for place in range(1, len(tokens) - 4)]
    known = [level for level in levels if level is not None]
    return max(known) if known and len(known) == len(levels) else None


def _token_class(tokens: Tokens, place: int) -> CommandClass | None:
    """What one token adds, in the place where it stands."""
    kind, text = tokens[place]
    if kind in ("name", "string") and tokens[place + 1][1] == ":":
        return _key_class(text.strip("\"'"))
    if kind == "name":
        return _name_class(tokens, place)
    if text == "[":  # a list, never a way into an object
        return CommandClass.READ if tokens[place - 1][1] in ("(", ",", ":", "[") else None
    if text in ("(", "{"):
        return CommandClass.READ if (tokens[place - 1][0] == "name") == (text == "(") else None
    if kind in ("number", "string"):
        return CommandClass.READ if tokens[place - 1][1] in ("(", ",", ":", "[", "-") else None
    return CommandClass.READ


def _key_class(key: str) -> CommandClass | None:
    if key in _RUNNING_KEYS:
        return None
    return CommandClass.WRITE if key in _KEEPING_KEYS else CommandClass.READ


def _name_class(tokens: Tokens, place: int) -> CommandClass | None:
    (_, name), before, following = tokens[place], tokens[place - 1][1], tokens[place + 1][1]
    if before != ".":
        known = name in _WRAPPERS if following == "(" else name in (_ROOTS if following == "." else _LITERALS)
        starts = name in _LITERALS or before in (";", "(", ",", ":", "[", "{")
        return CommandClass.READ if known and starts else None
    if following != "(":
        return CommandClass.READ if following == "." else None
    if name in _COMMANDS:
        return _command_class(tokens[place + 2 : place + 5])
    if name in _READS:  # a string for a filter is JavaScript that the server runs
        return None if name in _FILTERS and tokens[place + 2][0] == "string" else CommandClass.READ
    if name in _WRITES:
        return CommandClass.WRITE
    return CommandClass.EXECUTE if name in _STOPS else None


def _command_class(tokens: Tokens) -> CommandClass | None:
    """`runCommand({NAME: ...})` by its first key."""
    (_, brace), (_, name), (_, colon) = tokens
    known = brace == "{" and colon == ":" and name.strip("\"'") in _READING_COMMANDS
    return CommandClass.READ if known else None
