"""Random shell scripts, repeatable from a seed, that are harmless whatever bash makes of them.

They name no program but ls, cat, true, touch and the marker `zz-mark`, which the catalogue does not know. Most put a
payload where bash should only see text (quoted, escaped, a comment, a here-document); `mutated` then breaks a quote or
an operator, so that the two parsers have something to disagree on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

PAYLOADS: Final = ("touch m", "zz-mark", ">m", "zz-mark a", ": >m", "touch m;", "zz-mark|cat", "zz-mark&", "!zz-mark")
CODE: Final = ("a[$(zz-mark)]", "a[$(touch m)]", "x[`zz-mark`]", "a[$(zz-mark)]=1", "$(zz-mark)", "x=y", "1", "PATH")
PLAIN: Final = (
    "a",
    "b",
    "f",
    "1",
    "-n",
    "-e",
    "%s",
    "x=1",
    "--",
    "-",
    ".",
    "a.b",
    "~",
    "*",
    "[ab]",
    "{a,b}",
    "{1..3}",
    "a=b",
    "=",
    "]]",
)
NAMES: Final = ("x", "y", "a", "i", "_", "REPLY", "LANG", "f", "PATH", "RANDOM")
ENDS: Final = ("EOF", "E", "EOF", "'EOF'", '"EOF"', "\\EOF", "E_1", "EOF;")
TOKENS: Final = (
    *"'\"`$(){}[]<>|&;#!*?~=\\\n\t -+@:%/^,",
    *("$(", "${", "$((", "))", "<(", ">(", "[[", "]]", "=~", "\\\n", "<<E\n", "<<-E\n", "\nE\n", "<<<", "&&", "||", ";;", "$'", '$"', "|&", "&>", ">&"),
    *(" if ", " fi ", "then ", " do ", "done", "case ", " in ", "esac", "function ", "time ", "! ", "coproc ", "select ", "until ", "{ ", " }"),
    *("zz-mark", "touch m", ">m", "$(zz-mark)", "`zz-mark`", "\nzz-mark\n", ";zz-mark;", "#", " #", "$x", "@P}", "${!x}", "${x@P}", "[$(zz-mark)]"),
)  # fmt: skip


class Scripts:
    """An endless source of scripts. `builtins`: also eval, trap, alias and others that run or set what they are given."""

    def __init__(self, seed: int, *, builtins: bool) -> None:
        self._random = random.Random(seed)
        self._statements: tuple[Callable[[int], str], ...] = (
            *[self._simple] * 8, self._pipe, self._list, self._if, self._for, self._while, self._case, self._group,
            self._function, self._test, self._arithmetic, self._assign, self._assign, self._heredoc, self._heredoc,
            self._c_for, self._comment, self._declare,
        )  # fmt: skip
        if builtins:
            self._statements = (*self._statements, *[self._builtin] * 6)

    def script(self) -> str:
        """A script, as made or mutated."""
        made = self._script(self._random.choice((1, 2, 2, 3)))
        return self.mutated(made) if self._random.random() < 0.75 else made

    def mutated(self, script: str) -> str:
        """The script with one to three small changes."""
        for _ in range(self._random.choice((1, 1, 2, 3))):
            script = self._mutation(script)
        return script

    def _mutation(self, script: str) -> str:
        at = self._random.randrange(len(script) + 1)
        kind = self._random.randrange(8)
        if kind == 0:
            return script[:at] + script[at + 1 :]
        if kind == 1:
            return script[:at] + script[at : at + 2][::-1] + script[at + 2 :]
        if kind == 2:
            other = self._script(1)
            return script[:at] + other[self._random.randrange(len(other)) :]
        if kind == 3:
            end = min(len(script), at + self._random.randrange(1, 8))
            return script[:end] + script[at:end] + script[end:]
        if kind == 4:
            return script[:at] + script[at:].replace(" ", self._random.choice(("\n", "\t", "\\\n", "")), 1)
        if kind == 5:
            quote = self._random.choice("'\"`")
            return script[:at] + script[at:].replace(quote, self._random.choice(("'", '"', "`", "", "\\" + quote)), 1)
        return script[:at] + self._random.choice(TOKENS) + script[at:]

    # -- statements

    def _script(self, depth: int) -> str:
        count = self._random.choice((1, 1, 2, 3)) if depth > 0 else 1
        return self._random.choice(("; ", "\n", "\n")).join(self._statement(depth) for _ in range(count))

    def _statement(self, depth: int) -> str:
        make = self._random.choice(self._statements) if depth > 0 else self._simple
        return make(depth - 1)

    def _one_line(self, depth: int) -> str:
        made = self._statement(depth)
        return made if "\n" not in made and "#" not in made else self._simple(depth)

    def _simple(self, depth: int) -> str:
        name = self._random.choice(
            ("echo", "echo", "printf %s", ":", "true", "ls -d", "cat", "test", "echo -e", "false")
        )
        before = self._random.choice(
            ("", "", "", "", "", "! ", "time ", "LANG=C ", "2>&1 ", "</dev/null ", "\\", "x=1 ")
        )
        words = " ".join(self._word(depth) for _ in range(self._random.randrange(4)))
        return f"{before}{name} {words}{self._redirect(depth)}"

    def _redirect(self, depth: int) -> str:
        if self._random.random() < 0.7:
            return ""
        return self._random.choice(
            (
                " >/dev/null",
                " 2>&1",
                " 2>/dev/null",
                " </dev/null",
                f" <<<{self._word(depth)}",
                " >&2",
                " 2>&-",
                " &>/dev/null",
                " >&1 2>&1",
            )
        )

    def _pipe(self, depth: int) -> str:
        return f"{self._one_line(depth)} {self._random.choice(('|', '|', '|&'))} {self._one_line(depth)}"

    def _list(self, depth: int) -> str:
        return f"{self._one_line(depth)} {self._random.choice(('&&', '||', ';', '&'))} {self._one_line(depth)}"

    def _if(self, depth: int) -> str:
        return f"if {self._one_line(depth)}; then {self._one_line(depth)}; else {self._one_line(depth)}; fi"

    def _for(self, depth: int) -> str:
        name = self._random.choice(NAMES)
        return f"for {name} in {self._word(depth)} {self._word(depth)}; do {self._one_line(depth)}; done"

    def _while(self, depth: int) -> str:
        loop = self._random.choice(("while false", "until true", "while ! true"))
        return f"{loop}; do {self._one_line(depth)}; done{self._redirect(depth)}"

    def _c_for(self, depth: int) -> str:
        return f"for ((i=0; i<{self._random.randrange(3)}; i++)); do {self._one_line(depth)}; done"

    def _case(self, depth: int) -> str:
        end = self._random.choice((";;", ";;", ";&", ";;&"))
        return f"case {self._word(depth)} in {self._word(0)}) {self._one_line(depth)};; *) {self._one_line(depth)}{end} esac"

    def _group(self, depth: int) -> str:
        inner = self._one_line(depth)
        made = self._random.choice((f"{{ {inner}; }}", f"({inner})", f"{{ {inner}\n}}", f"( {inner} )"))
        return made + self._redirect(depth)

    def _function(self, depth: int) -> str:
        head = self._random.choice(("f()", "f ()", "function f", "g()"))
        return f"{head} {{ {self._one_line(depth)}; }}; f {self._word(depth)}"

    def _test(self, depth: int) -> str:
        left, right = self._word(depth), self._word(depth)
        operator = self._random.choice(("==", "=", "!=", "=~", "<", "-eq", "-lt", "-nt", "&&", "-a", "-o"))
        one = self._random.choice(("-n", "-z", "-v", "-f", "-R", "!"))
        return self._random.choice(
            (
                f"[[ {left} {operator} {right} ]]",
                f"[ {left} {operator} {right} ]",
                f"[[ {one} {left} ]]",
                f"[ {one} {left} ]",
            )
        )

    def _arithmetic(self, depth: int) -> str:
        inner = self._sum()
        return self._random.choice((f"(({inner}))", f"echo $(({inner}))", f"echo $[{inner}]", f"let {self._text()}"))

    def _sum(self) -> str:
        pieces = (*NAMES, "1", "2", "x++", "x=1", "a[0]", "a[1]=2", "$x", "${#x}", "a[$(zz-mark)]", "(1)", "$((1))")
        return self._random.choice("+-*<?,=").join(
            self._random.choice(pieces) for _ in range(self._random.choice((1, 2, 2)))
        )

    def _assign(self, depth: int) -> str:
        name = self._random.choice((*NAMES, "a[0]", "x+", "a[x]"))
        value = self._random.choice(
            (
                self._word(depth),
                f"'{self._random.choice(CODE)}'",
                f"({self._word(depth)} {self._word(depth)})",
                "1",
                f"([1]={self._word(depth)})",
            )
        )
        return f"{name}={value}; {self._one_line(depth)}" if self._random.random() < 0.6 else f"{name}={value}"

    def _declare(self, depth: int) -> str:
        keyword = self._random.choice(
            ("declare", "export", "readonly", "typeset", "local", "unset", "declare -a", "declare -i", "declare -n")
        )
        return f"{keyword} {self._random.choice(NAMES)}{self._random.choice(('', '=' + self._word(depth)))}"

    def _comment(self, depth: int) -> str:
        return f"{self._simple(depth)} # {self._random.choice(PAYLOADS)}{self._random.choice(('', chr(92)))}"

    def _heredoc(self, depth: int) -> str:
        end = self._random.choice(ENDS)
        bare = end.strip("'\"\\;")
        dash = self._random.choice(("", "", "-"))
        lines = [
            self._random.choice(
                (
                    self._text(),
                    self._word(depth),
                    *PAYLOADS,
                    f"{bare} ",
                    f" {bare}",
                    f"{bare}x",
                    f"\t{bare}",
                    "$x",
                    "\\",
                )
            )
            for _ in range(self._random.randrange(4))
        ]
        tail = self._random.choice(
            (
                "",
                "",
                "",
                f" | {self._simple(0)}",
                f" && {self._simple(0)}",
                "; true",
                " >/dev/null",
                f" {self._word(0)}",
            )
        )
        body = "".join(f"{line}\n" for line in lines)
        return f"cat <<{dash}{end}{tail}\n{body}{bare}"

    def _builtin(self, depth: int) -> str:
        text, name, word = self._text(), self._random.choice(NAMES), self._word(depth)
        code = f"'{self._random.choice(CODE)}'"
        return self._random.choice(
            (
                f"eval {text}", f"eval {word}", f"trap {text} EXIT", f"trap {text} ERR; false", f"trap {text} DEBUG; true",
                f"alias f={text}; f", f"shopt -s expand_aliases\nalias f={text}\nf", f". /dev/stdin <<<{text}",
                f"source /dev/fd/0 <<<{text}", f"read {name} <<<{code}; echo $(({name}))", f"read -r {word} <<<{text}",
                f"mapfile {name} <<<{code}; (({name}))", f"printf -v {name} {text}", f"printf -v {code} %s 1",
                f"set -- {text}; eval $1", f"set -- {text}; \"$@\"", f"{name}={text}; ${name}", f"{name}={text}; eval ${name}",
                f"command {word} {text}", f"builtin {word}", f"exec {word}", f"type {word}", f"hash -p {word} ls; ls",
                f"unset {code}", f"[ -v {code} ]", f"test -v {code}", f"declare {code}", f"export {code}", f"let {code}",
                f"f() {{ {self._one_line(depth)}; }}; {self._random.choice(('f', 'unset -f f; f', 'f() { :; }; f', 'command f'))}",
                f"getopts {word} {name}", f"wait -n -p {code}", f"enable -n echo; echo {text}", f"complete -C {text} f",
                f"PS4={text}; set -x; true", f"PROMPT_COMMAND={text}", f"BASH_ENV={word} true", f"command_not_found_handle() {{ zz-mark; }}; {word}",
                f"x={code}; [[ x -eq 1 ]]", f"x={code}; echo ${{a[x]}}", f"x={code}; echo ${{y:x}}", f"x={code}; echo ${{!x}}",
                f"x={code}; a[x]=1", f"x={text}; echo ${{x@P}}", f"x={text}; echo ${{x@E}}", f"declare -i i; i={code}", f"for ((i={code};;)); do break; done",
                f"printf '%d' {code}", f"printf '%n' {name}", f"test {code} -eq 1", f"[ {code} -lt 1 ]", f"shift {code}", f"return {code}",
                f"pushd {word}; popd", f"bash -c {text}", f"coproc {self._simple(0)}", f"select x in {text}; do echo; break; done",
                f"exec {{x}}</dev/null", f"cat <{word}", f"ls >{word}", f"jobs -x {text}", f"bind -x {text}", f"fc -s {text}",
            )
        )  # fmt: skip

    # -- words

    def _word(self, depth: int) -> str:
        pieces = self._random.choice((1, 1, 1, 2, 3))
        return "".join(self._piece(depth) for _ in range(pieces))

    def _piece(self, depth: int) -> str:
        kind = self._random.randrange(12)
        if kind < 4:
            return self._random.choice(PLAIN)
        if kind < 8:
            return self._text()
        if kind < 10 or depth <= 0:
            return self._expansion()
        inner = self._one_line(depth - 1)
        return self._random.choice(
            (f"$({inner})", f'"$({inner})"', f"<({inner})", f"$( {inner} )", f"${{x:-$({inner})}}")
        )

    def _text(self) -> str:
        text = self._random.choice((*PAYLOADS, *CODE))
        return self._random.choice(
            (
                f"'{text}'", f"'{text}'", f'"{_in_quotes(text)}"', f"$'{text}'", f"$'\\'{text}'", f'"\\"{_in_quotes(text)}"',
                f'"\\$({_in_quotes(text)})"', f"'$({text})'", f"'`{text}`'", f'"\\`{_in_quotes(text)}\\`"', f"\\$\\(a\\)",
                f"'a'\\''{_escaped(text)}", _escaped(text), f"\"'{_in_quotes(text)}'\"", f"'\"'{_escaped(text)}'\"'", f"$'\\n{text}'",
                f'"#" ', f"\\#{_escaped(text)}", f"a#{_escaped(text)}",
            )
        )  # fmt: skip

    def _expansion(self) -> str:
        name = self._random.choice((*NAMES, "@", "*", "#", "?", "1", "a[0]", "a[@]", "a[x]"))
        inner = self._random.choice((*PLAIN, "'zz-mark'", '"zz-mark"', "\\}zz-mark", "$y", "'}'", '"}"', "$(echo)"))
        operator = self._random.choice((":-", "-", ":+", "%", "%%", "#", "##", "/", "//", "^", ",", ":", "@", ":="))
        bare = f"${name}" if len(name) == 1 else f"${{{name}}}"
        made = self._random.choice(
            (
                bare,
                bare,
                f"${{{name}}}",
                f"${{#{name}}}",
                f"${{{name}{operator}{inner}}}",
                f"${{!{name}}}",
                f"${{{name}@{self._random.choice('QEPAaKk')}}}",
            )
        )
        return f'"{made}"' if self._random.random() < 0.4 else made


def _in_quotes(text: str) -> str:
    return "".join(f"\\{char}" if char in '$`"\\' else char for char in text)


def _escaped(text: str) -> str:
    return "".join(char if char.isalnum() or char in "-_" else f"\\{char}" for char in text)
