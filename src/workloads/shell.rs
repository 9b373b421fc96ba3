//! Scripts of a POSIX shell, as far as the command lines in them can be known without running them.
//!
//! What a variable holds is known where the container's environment or the script itself says it; what a command prints, a
//! function does or a loop makes is not, and the word that needs it is marked so.

use std::collections::BTreeMap;

use crate::engine::Word;

/// More characters than a start script has.
const LONGEST: usize = 64 * 1024;
/// More words than a command line has.
const MOST_WORDS: usize = 4096;

/// What variables hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables {
    /// Those that are set, and whether their value is known.
    pub(super) values: BTreeMap<String, Word>,
    /// Whether others may be set of which nothing is known: those of a Secret.
    pub(super) open: bool,
    /// `$0`.
    pub(super) zero: Option<Word>,
    /// `$1`, `$2` and so on.
    pub(super) positional: Vec<Word>,
}

impl Variables {
    /// What a variable holds; `None` where it is not set, as far as can be known.
    pub(super) fn get(&self, name: &str) -> Option<&Word> {
        self.values.get(name)
    }
}

/// The simple commands of a script, in order.
pub(super) fn commands(script: &str, variables: &mut Variables) -> Vec<Vec<Word>> {
    let text: Vec<char> = script.chars().take(LONGEST).collect();
    let mut lexer = Lexer { text, at: 0, words: Vec::new(), commands: Vec::new(), depth: 0, total: 0 };
    lexer.run(variables);
    lexer.commands
}

struct Lexer {
    text: Vec<char>,
    at: usize,
    words: Vec<Word>,
    commands: Vec<Vec<Word>>,
    /// How many `if`, `case`, `for` and `while` are open: what is set there is set perhaps.
    depth: usize,
    total: usize,
}

/// One word as it is read.
#[derive(Default)]
struct Building {
    /// Words that are finished: an unquoted variable may hold several.
    done: Vec<Word>,
    text: String,
    unknown: bool,
    /// Whether there is a word at all: `""` is one.
    begun: bool,
}

impl Building {
    fn push(&mut self, c: char) {
        self.text.push(c);
        self.begun = true;
    }

    fn finish(mut self) -> Vec<Word> {
        if self.begun {
            self.done.push(Word { text: self.text, known: !self.unknown });
        }
        self.done
    }

    /// What a variable holds, outside of quotes: blanks divide it.
    fn split(&mut self, word: &Word) {
        let mut parts = word.text.split_whitespace();
        if word.text.starts_with(char::is_whitespace) {
            self.cut();
        }
        if let Some(first) = parts.next() {
            self.add(&Word { text: first.to_owned(), known: word.known });
        }
        for part in parts {
            self.cut();
            self.add(&Word { text: part.to_owned(), known: word.known });
        }
        if word.text.ends_with(char::is_whitespace) {
            self.cut();
        }
    }

    fn add(&mut self, word: &Word) {
        self.text.push_str(&word.text);
        self.unknown |= !word.known;
        self.begun = true;
    }

    fn cut(&mut self) {
        if self.begun {
            let text = std::mem::take(&mut self.text);
            self.done.push(Word { text, known: !self.unknown });
        }
        (self.begun, self.unknown) = (false, false);
    }
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn run(&mut self, variables: &mut Variables) {
        let mut heredocs: Vec<String> = Vec::new();
        while let Some(c) = self.peek(0) {
            match c {
                '\\' if self.peek(1) == Some('\n') => self.at += 2,
                '\\' if self.peek(1) == Some('\r') && self.peek(2) == Some('\n') => self.at += 3,
                '\n' => {
                    self.at += 1;
                    self.end(variables);
                    for delimiter in heredocs.drain(..) {
                        self.skip_document(&delimiter);
                    }
                }
                c if c.is_whitespace() => self.at += 1,
                '#' => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                '&' if self.peek(1) == Some('>') => {
                    self.at += 1;
                    self.redirection(variables, &mut heredocs);
                }
                ';' | '(' | ')' | '|' | '&' => {
                    self.at += 1;
                    self.end(variables);
                }
                '<' | '>' => self.redirection(variables, &mut heredocs),
                _ => self.word(variables),
            }
            if self.total > MOST_WORDS {
                break;
            }
        }
        self.end(variables);
    }

    fn word(&mut self, variables: &Variables) {
        let words = self.read_word(variables);
        // `2>&1`: the number is that of a stream.
        let is_stream = matches!(self.peek(0), Some('<' | '>'))
            && matches!(words.as_slice(), [word] if word.text.chars().all(|c| c.is_ascii_digit()));
        if !is_stream {
            self.total += words.len();
            self.words.extend(words);
        }
    }

    fn redirection(&mut self, variables: &Variables, heredocs: &mut Vec<String>) {
        let first = self.peek(0);
        while matches!(self.peek(0), Some('<' | '>' | '&' | '|')) {
            self.at += 1;
        }
        let is_document = first == Some('<') && self.text.get(self.at - 1) == Some(&'<') && {
            let begun = self.text.get(..self.at).unwrap_or_default();
            begun.iter().rev().take_while(|c| **c == '<').count() == 2
        };
        if is_document && self.peek(0) == Some('-') {
            self.at += 1;
        }
        while self.peek(0).is_some_and(|c| c == ' ' || c == '\t') {
            self.at += 1;
        }
        let before = self.at;
        let target = self.read_word(variables);
        if self.at == before {
            // Nothing that is a word follows: the loop goes on with it.
            return;
        }
        if is_document && let Some(word) = target.first() {
            heredocs.push(word.text.clone());
        }
    }

    fn skip_document(&mut self, delimiter: &str) {
        while self.at < self.text.len() {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let line: String = rest.iter().take_while(|c| **c != '\n').collect();
            self.at += line.chars().count() + 1;
            if line.trim() == delimiter {
                return;
            }
        }
    }

    fn read_word(&mut self, variables: &Variables) -> Vec<Word> {
        let mut building = Building::default();
        while let Some(c) = self.peek(0) {
            match c {
                '\\' if self.peek(1) == Some('\n') => self.at += 2,
                '\\' => {
                    if let Some(next) = self.peek(1) {
                        building.push(next);
                    }
                    self.at += 2;
                }
                '\'' => {
                    self.at += 1;
                    building.begun = true;
                    while let Some(c) = self.peek(0).filter(|c| *c != '\'') {
                        building.push(c);
                        self.at += 1;
                    }
                    self.at += 1;
                }
                '"' => self.quoted(&mut building, variables),
                '$' | '`' => self.dollar(&mut building, variables, false),
                c if c.is_whitespace() || matches!(c, ';' | '&' | '|' | '<' | '>' | '(' | ')') => break,
                c => {
                    building.push(c);
                    self.at += 1;
                }
            }
        }
        building.finish()
    }

    fn quoted(&mut self, building: &mut Building, variables: &Variables) {
        self.at += 1;
        let only_all = self.peek(0) == Some('$') && self.peek(1) == Some('@') && self.peek(2) == Some('"');
        building.begun |= !only_all;
        while let Some(c) = self.peek(0).filter(|c| *c != '"') {
            match c {
                '\\' => {
                    match self.peek(1) {
                        Some('\n') | None => {}
                        Some(next @ ('$' | '`' | '"' | '\\')) => building.push(next),
                        Some(next) => {
                            building.push('\\');
                            building.push(next);
                        }
                    }
                    self.at += 2;
                }
                '$' | '`' => self.dollar(building, variables, true),
                c => {
                    building.push(c);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
    }

    /// What stands after a `$`, or between backquotes.
    fn dollar(&mut self, building: &mut Building, variables: &Variables, quoted: bool) {
        let from = self.at;
        if self.peek(0) == Some('`') {
            self.at += 1;
            while self.peek(0).is_some_and(|c| c != '`') {
                self.at += 1;
            }
            self.at += 1;
            return self.unknown(building, from);
        }
        self.at += 1;
        match self.peek(0) {
            Some('(') => {
                let inner = self.balanced('(', ')');
                let sum = inner.strip_prefix('(').and_then(|inner| inner.strip_suffix(')'));
                match sum.and_then(|sum| arithmetic(sum, variables)) {
                    Some(number) => building.add(&Word::of(number.to_string())),
                    None => self.unknown(building, from),
                }
            }
            Some('{') => {
                let inner = self.balanced('{', '}');
                match held(&inner, variables) {
                    Some(word) if quoted => building.add(&word),
                    Some(word) => building.split(&word),
                    None => self.unknown(building, from),
                }
            }
            Some('@' | '*') => {
                self.at += 1;
                for (at, word) in variables.positional.iter().enumerate() {
                    if at > 0 {
                        building.cut();
                    }
                    building.add(word);
                }
            }
            Some(c) if c == '_' || c.is_ascii_alphanumeric() => {
                let mut name = String::new();
                while let Some(c) = self.peek(0).filter(|c| *c == '_' || c.is_ascii_alphanumeric()) {
                    name.push(c);
                    self.at += 1;
                    if name.starts_with(|c: char| c.is_ascii_digit()) {
                        break;
                    }
                }
                match value(&name, variables) {
                    Some(word) if quoted => building.add(&word),
                    Some(word) => building.split(&word),
                    None => self.unknown(building, from),
                }
            }
            Some('?' | '#' | '$' | '!' | '-') => {
                self.at += 1;
                self.unknown(building, from);
            }
            _ => building.push('$'),
        }
    }

    fn unknown(&self, building: &mut Building, from: usize) {
        let text: String =
            self.text.get(from..self.at.min(self.text.len())).unwrap_or_default().iter().collect();
        building.add(&Word { text, known: false });
    }

    /// What stands between two brackets, from the first on.
    fn balanced(&mut self, open: char, close: char) -> String {
        let mut depth = 0_usize;
        let mut inner = String::new();
        while let Some(c) = self.peek(0) {
            self.at += 1;
            if c == open {
                depth += 1;
                if depth == 1 {
                    continue;
                }
            } else if c == close {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            inner.push(c);
        }
        inner
    }

    /// The end of a command: what it sets is set, and what it runs is kept.
    fn end(&mut self, variables: &mut Variables) {
        let mut words = std::mem::take(&mut self.words);
        loop {
            match words.first().filter(|word| word.known).map(|word| word.text.as_str()) {
                Some("if" | "while" | "until") => self.depth += 1,
                Some("for" | "case" | "select") => {
                    self.depth += 1;
                    words.clear();
                }
                Some("fi" | "done" | "esac") => self.depth = self.depth.saturating_sub(1),
                Some("then" | "else" | "elif" | "do" | "{" | "}" | "!" | "time") => {}
                Some("export" | "declare" | "local" | "readonly" | "set" | "unset") => {
                    let sets = words.first().is_some_and(|word| word.text != "set" && word.text != "unset");
                    for word in words.iter().skip(1).filter(|_| sets) {
                        self.assign(word, variables);
                    }
                    return;
                }
                Some(word) if is_assignment(word) => {
                    let word = words.first().cloned();
                    if let Some(word) = word {
                        self.assign(&word, variables);
                    }
                }
                None if words.first().is_some_and(|word| is_assignment(&word.text)) => {
                    if let Some(word) = words.first().cloned() {
                        self.assign(&word, variables);
                    }
                }
                _ => break,
            }
            if words.is_empty() {
                return;
            }
            words.remove(0);
        }
        if !words.is_empty() {
            self.commands.push(words);
        }
    }

    fn assign(&self, word: &Word, variables: &mut Variables) {
        let Some((name, value)) = word.text.split_once('=') else { return };
        let value = Word { text: value.to_owned(), known: word.known && self.depth == 0 };
        variables.values.insert(name.trim_end_matches('+').to_owned(), value);
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
            && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
    })
}

/// Whole numbers and variables of them, with one operator between each two of them, from the left: what start scripts have.
fn arithmetic(text: &str, variables: &Variables) -> Option<u64> {
    let spaced: String = text
        .chars()
        .flat_map(|c| if "+-*/".contains(c) { vec![' ', c, ' '] } else { vec![c] })
        .filter(|c| !matches!(c, '{' | '}' | '$'))
        .collect();
    let mut parts = spaced.split_whitespace();
    let operand = |part: &str| match part.parse() {
        Ok(number) => Some(number),
        Err(_) => value(part, variables)?.text.trim().parse::<u64>().ok(),
    };
    let mut result = operand(parts.next()?)?;
    let mut last = None;
    while let Some(operator) = parts.next() {
        let right = operand(parts.next()?)?;
        // Of two kinds the order would matter.
        if last.is_some_and(|last| last != operator) {
            return None;
        }
        last = Some(operator);
        result = match operator {
            "+" => result.checked_add(right)?,
            "-" => result.checked_sub(right)?,
            "*" => result.checked_mul(right)?,
            "/" => result.checked_div(right)?,
            _ => return None,
        };
    }
    Some(result)
}

/// What a variable holds; `None` where that is not known.
fn value(name: &str, variables: &Variables) -> Option<Word> {
    if let Ok(at) = name.parse::<usize>() {
        let Some(positional) = at.checked_sub(1) else { return variables.zero.clone() };
        return variables.positional.get(positional).cloned();
    }
    variables.get(name).filter(|word| word.known).cloned()
}

/// What `${…}` holds.
fn held(inner: &str, variables: &Variables) -> Option<Word> {
    let end = inner.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
    let (name, operation) = inner.split_at(end);
    if name.is_empty() {
        return None;
    }
    let set = variables.get(name);
    let default = |text: &str| {
        let text = text.trim_matches('"').trim_matches('\'');
        (!text.contains('$') && !text.contains('`')).then(|| Word::of(text))
    };
    let is_set = set.is_some_and(|word| !word.known || !word.text.is_empty());
    for (mark, by_being_set) in [(":-", is_set), (":=", is_set), ("-", set.is_some()), ("=", set.is_some())] {
        if let Some(text) = operation.strip_prefix(mark) {
            return match (by_being_set, set) {
                (true, Some(word)) => word.known.then(|| word.clone()),
                _ if variables.open => None,
                _ => default(text),
            };
        }
    }
    if operation.is_empty() || operation.starts_with(":?") || operation.starts_with('?') {
        return value(name, variables);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(known: &[(&str, &str)], unknown: &[&str]) -> Variables {
        let known = known.iter().map(|(name, value)| ((*name).to_owned(), Word::of(*value)));
        let unknown =
            unknown.iter().map(|name| ((*name).to_owned(), Word { text: String::new(), known: false }));
        Variables { values: known.chain(unknown).collect(), ..Variables::default() }
    }

    /// Words with `?` after those that are not known, commands apart.
    fn read(script: &str, mut with: Variables) -> String {
        let word = |word: &Word| format!("[{}]{}", word.text, if word.known { "" } else { "?" });
        let line = |words: &Vec<Word>| words.iter().map(word).collect::<String>();
        commands(script, &mut with).iter().map(line).collect::<Vec<_>>().join(" / ")
    }

    #[test]
    fn a_script_is_read_as_a_shell_reads_it() {
        for (script, expected) in [
            ("a b  c", "[a][b][c]"),
            ("a \\\n  --b \\\n c", "[a][--b][c]"),
            ("a 'b c' \"d e\" f\\ g", "[a][b c][d e][f g]"),
            ("a; b && c || d | e & f", "[a] / [b] / [c] / [d] / [e] / [f]"),
            ("a # b\nc", "[a] / [c]"),
            ("a#b", "[a#b]"),
            ("a > /x/y 2>&1 <z b &> c", "[a][b]"),
            ("a \"$M\" ${M} $M/x", "[a][m n][m][n][m][n/x]"),
            ("a ${N:-8} ${M:-8} ${E:-8} ${E-8} ${N:?must}", "[a][8][m][n][8][${N:?must}]?"),
            (
                "a $N ${S} ${S:-1} $(cat x) `y` $((1 << 2))",
                "[a][$N]?[${S}]?[${S:-1}]?[$(cat x)]?[`y`]?[$((1 << 2))]?",
            ),
            (
                "X=2; a $((X * ${X} * 4)) $((X*X+1)) $((8 / X)) $((S * 2))",
                "[a][16][$((X*X+1))]?[4][$((S * 2))]?",
            ),
            ("X=1; export Y=2 && a $X$Y", "[a][12]"),
            ("X=1 a b", "[a][b]"),
            ("if x; then X=1; else X=2; fi; a $X", "[x] / [a][$X]?"),
            ("if x; then a b; else c; fi", "[x] / [a][b] / [c]"),
            ("for i in 1 2; do a $i; done", "[a][$i]?"),
            ("cat <<EOF > f\nvllm serve x\nEOF\na b", "[cat] / [a][b]"),
            ("a '{\"b\": 1}'", "[a][{\"b\": 1}]"),
            ("a \"\" b", "[a][][b]"),
            ("a '$M' \"\\$M\"", "[a][$M][$M]"),
            ("(a b)", "[a][b]"),
            ("a 'open", "[a][open]"),
            ("a ${M", "[a][m][n]"),
            ("", ""),
            ("a ${H##*-} $", "[a][${H##*-}]?[$]"),
        ] {
            let with = variables(&[("M", "m n"), ("E", "")], &["S"]);
            assert_eq!(read(script, with), expected, "{script}");
        }
    }

    #[test]
    fn positional_words_are_the_ones_after_the_script() {
        let mut with = variables(&[], &[]);
        with.positional = vec![Word::of("vllm"), Word::of("serve"), Word::of("a b")];
        assert_eq!(read("exec \"$@\"", with.clone()), "[exec][vllm][serve][a b]");
        assert_eq!(read("exec $1 \"$2\" -x $4", with), "[exec][vllm][serve][-x][$4]?");
    }

    #[test]
    fn of_variables_from_elsewhere_no_default_is_taken() {
        let mut with = variables(&[], &[]);
        with.open = true;
        assert_eq!(read("a ${N:-8}", with), "[a][${N:-8}]?");
    }

    proptest::proptest! {
        #[test]
        fn no_script_makes_it_panic(script in "[ab$@{}()\"'`\\\\\n;&|<>#= :-]{0,60}") {
            let _ = read(&script, variables(&[("a", "b c")], &["b"]));
        }
    }
}
