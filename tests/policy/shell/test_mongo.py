"""The lexer of `mongosh --eval`: calls of known methods with literals, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.classes import CommandClass
from policy.shell.mongo import mongo_class


@pytest.mark.parametrize(
    "text",
    [
        "db.orders.find({state: 'open', n: {$gt: 5}}).sort({_id: -1}).limit(5)",
        "rs.status()",
        "printjson(db.getSiblingDB('app').orders.stats())",
        "JSON.stringify(db.adminCommand({ping: 1}))",
        "db.runCommand({serverStatus: 1, repl: 0}); db.version()",
        "db.orders.aggregate([{$match: {a: true}}, {$group: {_id: '$b', n: {$sum: 1}}}])",
        "show dbs",
        "db.orders.findOne({_id: ObjectId('0123')})",
    ],
)
def test_texts_that_only_look(text: str) -> None:
    """I-16: a text is a read only if each call in it is known to look."""
    assert mongo_class(text) is CommandClass.READ


@pytest.mark.parametrize(
    "text",
    [
        "db.orders.insertOne({a: 1})",
        "db.orders.find(); db.orders.drop()",
        "db.orders.aggregate([{$out: 'x'}])",
        "db.orders.aggregate([{'$merge': {into: 'x'}}])",
        "db.dropDatabase()",
    ],
)
def test_texts_that_write(text: str) -> None:
    """I-16: one writing call or stage makes the text a write."""
    assert mongo_class(text) is CommandClass.WRITE


@pytest.mark.parametrize("text", ["db.shutdownServer()", "db.killOp(5)", "rs.stepDown()"])
def test_texts_that_stop_something(text: str) -> None:
    """I-16: stopping a server or a query is execute."""
    assert mongo_class(text) is CommandClass.EXECUTE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "db.adminCommand({shutdown: 1})",
        "db.orders.find({$where: 'sleep(1)'})",
        "db.orders.find().forEach(function(d) { db.x.insert(d) })",
        "db['orders'].drop()",
        "db.orders.find.call(1)",
        "db.constructor.constructor('x')()",
        "load('x.js')",
        "process.exit(1)",
        "db.x = 1",
        "db.orders.find(`x`)",
        "x => x",
        "require('child_process')",
        "db.orders.find()(1)",
        "db.runCommand('shutdown')",
        "db.orders.drop\n()[0]",
        "db.eval('x')",
        "db.orders.find('this.a == 1')",
        "db.find('a\\'b')",
    ],
)
def test_texts_that_are_not_read(text: str) -> None:
    """I-16: any other JavaScript is never a read."""
    assert mongo_class(text) is None


PIECES = [
    "db",
    ".",
    "find",
    "drop",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "$where",
    ":",
    "'a'",
    "1",
    ",",
    ";",
    "\n",
    "=",
    "eval",
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=2)), max_size=12).map("".join))
def test_any_text_gets_an_answer(text: str) -> None:
    """I-16: total over near-misses, and a call of drop is nowhere a read."""
    found = mongo_class(text)
    assert found in (None, *CommandClass)
    assert ".drop(" not in text or found is not CommandClass.READ
