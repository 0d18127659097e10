//! Rust source without its comments and texts, so that a rule sees code and nothing else.
//!
//! Knows comments, strings and characters. Does not parse: a rule that needs more looks at words.

/// The text with every comment, string and character literal blanked. Lines and columns stay where they are.
pub(crate) fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let len = literal_len(&chars, at);
        if len == 0 {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..at + len].iter().map(|&char| if char == '\n' { '\n' } else { ' ' }));
            at += len;
        }
    }
    code
}

/// How many characters the comment or literal at `at` has; zero when there is none.
fn literal_len(chars: &[char], at: usize) -> usize {
    let follows_word = at > 0 && is_word(chars[at - 1]);
    match chars[at] {
        '/' if chars.get(at + 1) == Some(&'/') => {
            chars[at..].iter().take_while(|&&char| char != '\n').count()
        }
        '/' if chars.get(at + 1) == Some(&'*') => block_comment_len(&chars[at..]),
        '"' => quoted_len(&chars[at..], '"'),
        '\'' => char_len(&chars[at..]),
        'r' if !follows_word || chars[at - 1] == 'b' => raw_string_len(&chars[at..]),
        _ => 0,
    }
}

fn block_comment_len(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn quoted_len(chars: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            char if char == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// A quote begins a character only when another one closes it; otherwise it begins a lifetime.
fn char_len(chars: &[char]) -> usize {
    match (chars.get(1), chars.get(2)) {
        (Some('\\'), _) => quoted_len(chars, '\''),
        (Some(_), Some('\'')) => 3,
        _ => 0,
    }
}

fn raw_string_len(chars: &[char]) -> usize {
    let hashes = chars[1..].iter().take_while(|&&char| char == '#').count();
    if chars.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let body = 2 + hashes;
    let is_end = |at: usize| {
        chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|&&char| char == '#').count() == hashes
    };
    (body..chars.len()).find(|&at| is_end(at)).map_or(chars.len(), |at| at + 1 + hashes)
}

/// Whether a character can be part of an identifier.
pub(crate) fn is_word(char: char) -> bool {
    char == '_' || char.is_alphanumeric()
}

/// The identifiers of some code with the number of their line, from 1.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(index, line)| {
        let words = line.split(|char| !is_word(char)).filter(|word| !word.is_empty());
        words.map(move |word| (index + 1, word))
    })
}

/// Paths of some code as lists of identifiers, with their line. Braces of a `use` are multiplied out:
/// `use a::{b, c::d};` gives `a::b` and `a::c::d`.
pub(crate) fn paths(code: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = Tokens::new(code);
    while let Some((line, token)) = rest.next_token() {
        if token.chars().all(is_word) {
            rest.path(line, vec![token], &mut found);
        }
    }
    found.retain(|(_, path)| path.len() > 1);
    found
}

/// Words and punctuation with their lines.
struct Tokens {
    tokens: Vec<(usize, String)>,
    at: usize,
}

impl Tokens {
    fn new(code: &str) -> Tokens {
        let mut tokens: Vec<(usize, String)> = Vec::new();
        for (index, line) in code.lines().enumerate() {
            let mut word = String::new();
            for char in line.chars().chain([' ']) {
                if is_word(char) {
                    word.push(char);
                    continue;
                }
                if !word.is_empty() {
                    tokens.push((index + 1, std::mem::take(&mut word)));
                }
                if !char.is_whitespace() {
                    tokens.push((index + 1, char.to_string()));
                }
            }
        }
        Tokens { tokens, at: 0 }
    }

    fn peek(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |(_, token)| token)
    }

    fn next_token(&mut self) -> Option<(usize, String)> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    /// Reads what follows `head`, which is consumed.
    fn path(&mut self, line: usize, mut head: Vec<String>, found: &mut Vec<(usize, Vec<String>)>) {
        while self.peek(0) == ":" && self.peek(1) == ":" {
            self.at += 2;
            let Some((_, token)) = self.next_token() else { break };
            if token == "{" {
                return self.group(&head, found);
            }
            if token == "<" {
                // A turbofish: what is inside is read as a path of its own.
                break;
            }
            head.push(token);
        }
        found.push((line, head));
    }

    fn group(&mut self, head: &[String], found: &mut Vec<(usize, Vec<String>)>) {
        while let Some((line, token)) = self.next_token() {
            match token.as_str() {
                "}" => return,
                "," => {}
                "as" => self.at += 1,
                _ => {
                    let mut path = head.to_vec();
                    path.push(token);
                    self.path(line, path, found);
                }
            }
        }
    }
}

#[test]
fn comments_and_texts_are_no_code() {
    let rows = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"unsafe \\\" // \") + 1", "f(               ) + 1"),
        ("r#\"a \" b\"# + br\"c\" + for", "           + b     + for"),
        ("'a' + '\\'' + 'b: &'a u8", "    +      + 'b: &'a u8"),
        ("\"open", "     "),
    ];
    for (text, expected) in rows {
        assert_eq!(code_of(text), expected, "{text}");
    }
}

#[test]
fn braces_are_multiplied_out() {
    let found = paths("use a::{b, c::{d, e as f}, self};\nlet x = crate::g::h(i::<j::k>());");
    let shown: Vec<String> = found.iter().map(|(line, path)| format!("{line} {}", path.join("::"))).collect();
    assert_eq!(shown, ["1 a::b", "1 a::c::d", "1 a::c::e", "1 a::self", "2 crate::g::h", "2 j::k"]);
}
