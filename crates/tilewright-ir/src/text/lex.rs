//! The words of the text form.

use super::key;
use crate::diagnostic::Diagnostic;
use crate::site::Location;
use std::borrow::Cow;

/// One word.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token {
    /// A name or a number: letters, digits, and `_ . + -`.
    Word(String),
    /// `%name` or `%"any name"`.
    Value(String),
    /// Text between double quotes.
    Text(String),
    /// One of `( ) { } [ ] < > , : = @`.
    Mark(char),
    End,
}

impl Token {
    /// How a message names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Token::Word(word) => format!("`{word}`"),
            Token::Value(name) => format!("`%{name}`"),
            Token::Text(text) => format!("\"{}\"", text.escape_debug()),
            Token::Mark(mark) => format!("`{mark}`"),
            Token::End => "the end of the text".to_string(),
        }
    }
}

/// A word and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Lexeme {
    pub(super) token: Token,
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A mistake at this place of the text.
pub(super) fn mistake(message: impl Into<String>, line: u32, column: u32) -> Diagnostic {
    Diagnostic::new(message).at(Location { file: Cow::Borrowed("<text>"), line, column })
}

/// The words of a text; the last one is the end.
pub(super) fn lex(text: &str) -> Result<Vec<Lexeme>, Diagnostic> {
    let mut out = Vec::new();
    let mut cursor = Cursor { chars: text.chars().peekable(), line: 1, column: 1 };
    loop {
        cursor.skip_blanks();
        let (line, column) = (cursor.line, cursor.column);
        let token = match cursor.chars.peek().copied() {
            None => Token::End,
            Some(c) if is_word(c) => Token::Word(cursor.word()),
            Some('"') => Token::Text(cursor.text()?),
            Some('%') => {
                cursor.next();
                match cursor.chars.peek() {
                    Some('"') => Token::Value(key(cursor.text()?)),
                    Some(&c) if is_word(c) => Token::Value(cursor.word()),
                    _ => return Err(mistake("`%` without the name of a value", line, column)),
                }
            }
            Some('/') => {
                cursor.next();
                if cursor.chars.peek() != Some(&'/') {
                    return Err(mistake("`/` alone", line, column).help("a comment starts with `//`"));
                }
                while cursor.chars.peek().is_some_and(|&c| c != '\n') {
                    cursor.next();
                }
                continue;
            }
            Some(c) if "(){}[]<>,:=@".contains(c) => {
                cursor.next();
                Token::Mark(c)
            }
            Some(c) => return Err(mistake(format!("`{}` has no meaning here", c.escape_debug()), line, column)),
        };
        let end = token == Token::End;
        out.push(Lexeme { token, line, column });
        if end {
            return Ok(out);
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.+-".contains(c)
}

struct Cursor<'t> {
    chars: std::iter::Peekable<std::str::Chars<'t>>,
    line: u32,
    column: u32,
}

impl Cursor<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        if c == '\n' {
            self.line = self.line.saturating_add(1);
            self.column = 1;
        } else {
            self.column = self.column.saturating_add(1);
        }
        Some(c)
    }

    fn skip_blanks(&mut self) {
        while self.chars.peek().is_some_and(|c| c.is_whitespace()) {
            self.next();
        }
    }

    fn word(&mut self) -> String {
        let mut out = String::new();
        while let Some(&c) = self.chars.peek() {
            if !is_word(c) {
                break;
            }
            out.push(c);
            self.next();
        }
        out
    }

    fn text(&mut self) -> Result<String, Diagnostic> {
        let (line, column) = (self.line, self.column);
        let open = || mistake("a quoted name does not end", line, column);
        self.next();
        let mut out = String::new();
        loop {
            match self.next().ok_or_else(open)? {
                '"' => return Ok(out),
                '\n' => return Err(open()),
                '\\' => out.push(self.escape()?),
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Diagnostic> {
        let (line, column) = (self.line, self.column);
        let unknown = || mistake("this escape is not known", line, column).help("write \\\\, \\\", \\n or \\u{41}");
        match self.next().ok_or_else(unknown)? {
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            '0' => Ok('\0'),
            c @ ('\\' | '"' | '\'') => Ok(c),
            'u' if self.chars.peek() == Some(&'{') => {
                self.next();
                let digits = self.word();
                let closed = self.next() == Some('}');
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| closed);
                code.and_then(char::from_u32).ok_or_else(unknown)
            }
            _ => Err(unknown()),
        }
    }
}
