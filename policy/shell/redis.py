"""redis-cli: its own options, and the command of the server, by a list. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from policy.catalog.model import Program
from policy.classes import CommandClass
from policy.shell.effect import Effect, opaque
from policy.shell.readers import read_and_weigh
from policy.shell.rules import Scene, worse
from policy.shell.words import Word


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READS = _words("""
bitcount bitpos dbsize dump echo exists expiretime geodist geohash geopos geosearch get getbit getrange hexists
hget hgetall hkeys hlen hmget hrandfield hscan hstrlen hvals info keys lastsave lcs lindex llen lolwut lpos
lrange mget monitor pexpiretime pfcount ping psubscribe pttl randomkey role scan scard sdiff sinter sintercard
sismember smembers smismember srandmember sscan strlen subscribe substr sunion time ttl type wait xlen xpending
xrange xread xrevrange zcard zcount zdiff zinter zintercard zlexcount zmscore zrandmember zrange zrangebylex
zrangebyscore zrank zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion
""")
_WRITES = _words("""
append bgrewriteaof bgsave bitfield bitop blmove blpop brpop copy decr decrby del expire expireat flushall
flushdb geoadd geosearchstore getdel getex getset hdel hexpire hincrby hincrbyfloat hmset hset hsetnx incr
incrby incrbyfloat linsert lmove lpop lpush lpushx lrem lset ltrim migrate move mset msetnx persist pexpire
pexpireat pfadd pfmerge psetex publish rename renamenx replicaof restore rpop rpoplpush rpush rpushx sadd save
sdiffstore set setbit setex setnx setrange sinterstore slaveof smove sort spop srem sunionstore swapdb touch
unlink xack xadd xautoclaim xclaim xdel xgroup xreadgroup xsetid xtrim zadd zdiffstore zincrby zinterstore zmpop
zpopmax zpopmin zrangestore zrem zremrangebylex zremrangebyrank zremrangebyscore zunionstore
""")
# Commands with commands of their own. What a list does not name is not known, so that a new one is never a read.
_INNER_READS: Mapping[str, frozenset[str]] = {
    "acl": _words("cat dryrun getuser help list users whoami"),
    "client": _words("getname getredir help id info list"),
    "cluster": _words("""
countkeysinslot getkeysinslot help info keyslot links myid nodes replicas shards slaves slots
count-failure-reports
"""),
    "command": _words("count docs getkeys help info list"),
    "config": _words("get help"),
    "function": _words("dump help list stats"),
    "latency": _words("doctor graph help histogram history latest"),
    "memory": _words("doctor help malloc-stats stats usage"),
    "module": _words("help list"),
    "object": _words("encoding freq help idletime refcount"),
    "pubsub": _words("channels help numpat numsub shardchannels shardnumsub"),
    "script": _words("exists help"),
    "slowlog": _words("get help len"),
    "xinfo": _words("consumers groups help stream"),
}
_INNER_WRITES: Mapping[str, frozenset[str]] = {
    "acl": _words("deluser load save setuser"),
    "client": _words("no-evict no-touch pause setname unpause"),
    "config": _words("resetstat rewrite set"),
    "latency": _words("reset"),
    "memory": _words("purge"),
    "slowlog": _words("reset"),
}
_RUNS = {"client": _words("kill"), "script": _words("flush kill")}
_STOPS = _words("failover shutdown")
_CLUSTER_READS = _words("check help info")


def redis(program: Program, words: Sequence[Word], scene: Scene) -> Effect:
    """redis-cli: a command of the server behind its options, or an option that asks by itself."""
    del scene
    call, effect = read_and_weigh(program, words, until_operand=True)
    if call.doubt or effect.opaque:
        return effect
    if call.has("--cluster"):
        return _manages(effect, [given.value for given in call.given if given.name == "--cluster"][-1])
    if not call.operands:
        asks = any(given.name in program.reads_if for given in call.given)
        return (
            effect if asks else worse(effect, opaque("redis-cli.input", "redis-cli reads its commands from its input"))
        )
    level = _command_class(call.operands)
    if level is None:
        return worse(effect, opaque("redis-cli.command", f"{call.operands[0].text!r} is not a command that is known"))
    rule = f"redis-cli {call.operands[0].text}"
    effect = effect.at_least(level, rule, f"{call.operands[0].text} is {level.phrase} command of redis")
    return replace(effect, egress=effect.egress or call.operands[0].text.lower() == "migrate")


def _manages(effect: Effect, verb: Word | None) -> Effect:
    """`--cluster VERB HOST:PORT`: asks about a cluster, or moves its parts about."""
    if verb is not None and verb.fixed and verb.text in _CLUSTER_READS:
        return effect
    return worse(effect, opaque("redis-cli --cluster", "changes a cluster"))


def _command_class(words: Sequence[Word]) -> CommandClass | None:
    """The class of a command of the server; words behind the ones that name it change no class, but for `ACL LOG`."""
    name = words[0].text.lower() if words[0].fixed else ""
    if name in _INNER_READS:
        second = words[1].text.lower() if len(words) > 1 and words[1].fixed else ""
        return _inner_class(name, second)
    if name in _READS:
        return CommandClass.READ
    if name in _WRITES:
        return CommandClass.WRITE
    return CommandClass.EXECUTE if name in _STOPS else None


def _inner_class(name: str, second: str) -> CommandClass | None:
    if second in _INNER_READS[name]:
        return CommandClass.READ
    if second in _INNER_WRITES.get(name, ()):
        return CommandClass.WRITE
    return CommandClass.EXECUTE if second in _RUNS.get(name, ()) else None
