//! The regular expressions of a checkpoint's ignore list: literals, `.`, classes, groups, alternatives, `* + ?`, anchors and
//! lookahead, matched from the start of a name as the tools do.
//!
//! Bounded in length, depth and steps, since a config is not to be trusted.

/// The longest pattern or name that is looked at.
const LONGEST: usize = 512;
/// The deepest nesting of groups.
const DEEPEST: u8 = 8;
/// Steps after which a match is given up.
const STEPS: u32 = 100_000;

/// A pattern.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern(Alternatives);

type Alternatives = Vec<Vec<Piece>>;

/// A node and how often it may follow itself.
#[derive(Clone, Debug, PartialEq)]
struct Piece {
    node: Node,
    least: usize,
    most: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Any,
    /// Ranges of characters, and whether they are the ones not meant.
    Class(Vec<(char, char)>, bool),
    Group(Alternatives),
    /// Lookahead, and whether it must fail.
    Ahead(Alternatives, bool),
    Start,
    End,
}

impl Pattern {
    /// Reads a pattern; `None` if it uses what is not known here.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let characters: Vec<char> = text.chars().take(LONGEST + 1).collect();
        if characters.len() > LONGEST {
            return None;
        }
        let mut parser = Parser { characters: &characters, at: 0 };
        let alternatives = parser.alternatives(0)?;
        (parser.at == characters.len()).then_some(Self(alternatives))
    }

    /// Whether the start of a name matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().take(LONGEST).collect();
        let mut steps = STEPS;
        any(&self.0, &name, 0, &mut steps, &mut |_, _| true)
    }
}

struct Parser<'a> {
    characters: &'a [char],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += 1;
        Some(character)
    }

    fn take(&mut self, text: &str) -> bool {
        let found = text.chars().enumerate().all(|(i, c)| self.characters.get(self.at + i) == Some(&c));
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn alternatives(&mut self, depth: u8) -> Option<Alternatives> {
        if depth > DEEPEST {
            return None;
        }
        let mut alternatives = vec![Vec::new()];
        loop {
            match self.peek() {
                None | Some(')') => return Some(alternatives),
                Some('|') => {
                    self.at += 1;
                    alternatives.push(Vec::new());
                }
                Some(_) => {
                    let piece = self.piece(depth)?;
                    alternatives.last_mut()?.push(piece);
                }
            }
        }
    }

    fn piece(&mut self, depth: u8) -> Option<Piece> {
        let node = match self.next()? {
            '.' => Node::Any,
            '^' => Node::Start,
            '$' => Node::End,
            '(' => {
                let ahead = if self.take("?!") {
                    Some(true)
                } else if self.take("?=") {
                    Some(false)
                } else {
                    None
                };
                if ahead.is_none() && !self.take("?:") && self.peek() == Some('?') {
                    return None;
                }
                let alternatives = self.alternatives(depth + 1)?;
                if !self.take(")") {
                    return None;
                }
                match ahead {
                    Some(fails) => Node::Ahead(alternatives, fails),
                    None => Node::Group(alternatives),
                }
            }
            '[' => self.class()?,
            '\\' => Node::Class(escaped(self.next()?)?, false),
            '*' | '+' | '?' | '{' | '}' | ']' | ')' => return None,
            literal => Node::Class(vec![(literal, literal)], false),
        };
        let (least, most) = match self.peek() {
            Some('*') => (0, usize::MAX),
            Some('+') => (1, usize::MAX),
            Some('?') => (0, 1),
            _ => return Some(Piece { node, least: 1, most: 1 }),
        };
        self.at += 1;
        // A lazy quantifier matches the same names.
        self.take("?");
        Some(Piece { node, least, most })
    }

    fn class(&mut self) -> Option<Node> {
        let inverted = self.take("^");
        let mut ranges = Vec::new();
        loop {
            match self.next()? {
                ']' if !ranges.is_empty() => return Some(Node::Class(ranges, inverted)),
                '\\' => ranges.extend(escaped(self.next()?)?),
                first => {
                    let after = self.characters.get(self.at + 1).copied();
                    if self.peek() == Some('-') && after.is_some_and(|c| c != ']') {
                        self.at += 1;
                        ranges.push((first, self.next()?));
                    } else {
                        ranges.push((first, first));
                    }
                }
            }
        }
    }
}

/// What stands after a backslash.
fn escaped(character: char) -> Option<Vec<(char, char)>> {
    match character {
        'd' => Some(vec![('0', '9')]),
        'w' => Some(vec![('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')]),
        's' => Some(vec![(' ', ' '), ('\t', '\t')]),
        letter if letter.is_ascii_alphanumeric() => None,
        literal => Some(vec![(literal, literal)]),
    }
}

/// Called with the place up to which the name matched, and the steps that are left.
type Then<'a> = &'a mut dyn FnMut(usize, &mut u32) -> bool;

fn any(alternatives: &Alternatives, name: &[char], at: usize, steps: &mut u32, then: Then<'_>) -> bool {
    alternatives.iter().any(|pieces| sequence(pieces, name, at, steps, then))
}

fn sequence(pieces: &[Piece], name: &[char], at: usize, steps: &mut u32, then: Then<'_>) -> bool {
    match pieces.split_first() {
        None => then(at, steps),
        Some((piece, rest)) => {
            repeat(piece, 0, name, at, steps, &mut |at, steps| sequence(rest, name, at, steps, then))
        }
    }
}

fn repeat(piece: &Piece, count: usize, name: &[char], at: usize, steps: &mut u32, then: Then<'_>) -> bool {
    let Some(left) = steps.checked_sub(1) else { return false };
    *steps = left;
    if let Some(width) = single(&piece.node) {
        // One character at a time needs no recursion: as many as there are, then fewer and fewer.
        let held =
            name.get(at..).unwrap_or(&[]).iter().take(piece.most).take_while(|c| width.holds(**c)).count();
        return (piece.least..=held).rev().any(|taken| {
            let Some(left) = steps.checked_sub(1) else { return false };
            *steps = left;
            then(at + taken, steps)
        });
    }
    if count < piece.most {
        let more = node(&piece.node, name, at, steps, &mut |next, steps| {
            // Nothing was taken: more of it changes nothing.
            if next == at && count >= piece.least {
                false
            } else {
                repeat(piece, count + 1, name, next, steps, then)
            }
        });
        if more {
            return true;
        }
    }
    count >= piece.least && then(at, steps)
}

/// A node that stands for one character.
enum Single<'a> {
    Any,
    Class(&'a [(char, char)], bool),
}

impl Single<'_> {
    fn holds(&self, character: char) -> bool {
        match self {
            Self::Any => true,
            Self::Class(ranges, inverted) => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *inverted
            }
        }
    }
}

fn single(node: &Node) -> Option<Single<'_>> {
    match node {
        Node::Any => Some(Single::Any),
        Node::Class(ranges, inverted) => Some(Single::Class(ranges, *inverted)),
        _ => None,
    }
}

fn node(node: &Node, name: &[char], at: usize, steps: &mut u32, then: Then<'_>) -> bool {
    match node {
        Node::Group(alternatives) => any(alternatives, name, at, steps, then),
        Node::Ahead(alternatives, fails) => {
            any(alternatives, name, at, steps, &mut |_, _| true) != *fails && then(at, steps)
        }
        Node::Start => at == 0 && then(at, steps),
        Node::End => at == name.len() && then(at, steps),
        Node::Any | Node::Class(..) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_from_the_start() {
        for (pattern, name, expected) in [
            ("a", "abc", true),
            ("b", "abc", false),
            (".*b", "abc", true),
            ("a.?c$", "ac", true),
            ("a.?c$", "abbc", false),
            ("[a-c]+$", "abcabc", true),
            ("[^a-c]+$", "abcabc", false),
            (r"(a|b)*c", "ababc", true),
            (r"(?:ab)+$", "abab", true),
            (r"(?:ab)+$", "aba", false),
            (r"x|\d+\.w$", "12.w", true),
            ("(a*)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false),
        ] {
            assert_eq!(Pattern::new(pattern).map(|p| p.matches(name)), Some(expected), "{pattern} on {name}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for pattern in ["(", ")", "*", "a{2}", r"\1", "[", "(?P<x>a)", &"(".repeat(600), &"a".repeat(600)] {
            assert_eq!(Pattern::new(pattern), None, "{pattern}");
        }
    }
}
