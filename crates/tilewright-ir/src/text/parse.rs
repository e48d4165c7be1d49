//! Kernels from text.

use super::lex::{Lexeme, Token, lex, mistake};
use super::{is_plain, key};
use crate::diagnostic::Diagnostic;
use crate::kernel::{Access, Kernel, RegionId, ValueId};
use crate::op::{Attrs, Op};
use crate::schedule::Work;
use crate::site::{Frame, FrameId, Location, Site, SiteId};
use crate::types::{Elem, Shape, Type};
use crate::verify::MAX_NESTING;
use std::borrow::Cow;
use std::collections::HashMap;

/// The kernel that a text describes. Types are checked on the way; [`verify`](crate::verify::verify) checks the rest.
///
/// # Errors
/// The first mistake, at its line and column of the text.
pub fn parse(text: &str) -> Result<Kernel, Diagnostic> {
    let mut parser = Parser {
        words: lex(text)?,
        at: 0,
        kernel: Kernel::new(""),
        names: HashMap::new(),
        sites: HashMap::new(),
        frames: HashMap::new(),
    };
    parser.kernel()?;
    Ok(parser.kernel)
}

type Parsed<T> = Result<T, Diagnostic>;

struct Parser {
    words: Vec<Lexeme>,
    at: usize,
    kernel: Kernel,
    /// The values that can be used here.
    names: HashMap<String, ValueId>,
    sites: HashMap<Site, SiteId>,
    frames: HashMap<Frame, FrameId>,
}

/// The head of an instruction, up to its regions.
struct Head {
    results: Vec<(String, Option<Type>, usize)>,
    name: String,
    /// Where the op's name stands.
    at: usize,
    operands: Vec<ValueId>,
    attrs: Attrs,
    site: SiteId,
}

impl Parser {
    fn kernel(&mut self) -> Parsed<()> {
        self.word("kernel")?;
        self.kernel.name = Cow::Owned(self.name("the kernel's name")?);
        self.mark('(')?;
        while !self.take(')') {
            let out = *self.peek() == Token::Word("out".to_string()) && *self.peek_second() != Token::Mark(':');
            if out {
                self.at += 1;
            }
            let at = self.at;
            let name = self.name("a parameter")?;
            self.mark(':')?;
            let ty = self.ty()?;
            let access = if out { Access::Write } else { Access::Read };
            let value = self.kernel.add_param(name.clone(), ty, access, SiteId::UNKNOWN);
            self.define(key(name), value, at)?;
            if *self.peek() != Token::Mark(')') {
                self.mark(',')?;
            }
        }
        if *self.peek() == Token::Word("work".to_string()) {
            self.at += 1;
            self.kernel.work = Some(self.work()?);
        }
        self.mark('{')?;
        self.block(Kernel::BODY, 0)?;
        match self.peek() {
            Token::End => Ok(()),
            other => Err(self.wrong(format!("{} after the end of the kernel", other.describe()))),
        }
    }

    /// `rows=4 columns=1 stages=2 blocks=2`.
    fn work(&mut self) -> Parsed<Work> {
        let mut field = |name: &str| {
            self.word(name)?;
            self.mark('=')?;
            self.number::<u32>("how many")
        };
        Ok(Work {
            rows: field("rows")?,
            columns: field("columns")?,
            stages: field("stages")?,
            blocks: field("blocks")?,
        })
    }

    /// What stands between braces, and the closing one.
    fn block(&mut self, region: RegionId, depth: usize) -> Parsed<()> {
        if depth > MAX_NESTING {
            return Err(self.wrong(format!("regions nest more than {MAX_NESTING} deep")));
        }
        let mut local = Vec::new();
        if *self.peek() == Token::Mark('(') && region != Kernel::BODY {
            self.at += 1;
            while !self.take(')') {
                let at = self.at;
                let name = self.value_name()?;
                self.mark(':')?;
                let ty = self.ty()?;
                let value = self.kernel.add_value(ty, region, SiteId::UNKNOWN);
                self.define(name.clone(), value, at)?;
                local.push(name);
                self.region(region).args.push(value);
                if *self.peek() != Token::Mark(')') {
                    self.mark(',')?;
                }
            }
        }
        while !self.take('}') {
            if *self.peek() == Token::Word("yield".to_string()) {
                self.at += 1;
                let yields = self.values()?;
                self.region(region).yields = yields;
                self.mark('}')?;
                break;
            }
            self.inst(region, depth, &mut local)?;
        }
        for name in local {
            self.names.remove(&name);
        }
        Ok(())
    }

    fn inst(&mut self, region: RegionId, depth: usize, local: &mut Vec<String>) -> Parsed<()> {
        let Head { results, name, at, operands, mut attrs, site } = self.head()?;
        let mut op = match Op::parse(&name, &mut attrs) {
            Some(op) => op.map_err(|message| self.wrong_at(format!("`{name}`: {message}"), at))?,
            None => return Err(self.unknown_op(&name, at)),
        };
        if let Some((attr, _)) = attrs.0.first() {
            return Err(self.wrong_at(format!("`{name}` has no attribute `{attr}`"), at));
        }
        for (i, slot) in op.regions_mut().into_iter().enumerate() {
            if i > 0 {
                self.word("else")?;
            }
            self.mark('{')?;
            *slot = self.kernel.add_region(region);
            self.block(*slot, depth + 1)?;
        }
        let made = self.kernel.push(region, op, &operands, site).map_err(|error| {
            let mut diagnostic = self.wrong_at(error.message, at);
            diagnostic.help = error.help;
            diagnostic
        })?;
        if made.len() != results.len() {
            let message = format!("`{name}` has {} results, and {} are named", made.len(), results.len());
            return Err(self.wrong_at(message, at));
        }
        for (value, (result, ty, at)) in made.into_iter().zip(results) {
            let found = self.kernel.ty(value);
            if let Some(ty) = ty.filter(|&ty| ty != found) {
                return Err(self.wrong_at(format!("`%{result}` is written as {ty}, and `{name}` gives {found}"), at));
            }
            if let Some(slot) = self.kernel.values.get_mut(value.index()) {
                slot.site = site;
            }
            self.define(result.clone(), value, at)?;
            local.push(result);
        }
        Ok(())
    }

    fn head(&mut self) -> Parsed<Head> {
        let mut results = Vec::new();
        if matches!(self.peek(), Token::Value(_)) {
            loop {
                let at = self.at;
                let name = self.value_name()?;
                let ty = if self.take(':') { Some(self.ty()?) } else { None };
                results.push((name, ty, at));
                if !self.take(',') {
                    break;
                }
            }
            self.mark('=')?;
        }
        let at = self.at;
        let Token::Word(name) = self.peek().clone() else {
            return Err(self.expected("an op"));
        };
        self.at += 1;
        let operands = self.values()?;
        let mut attrs = Attrs::default();
        while let (Token::Word(attr), Token::Mark('=')) = (self.peek().clone(), self.peek_second().clone()) {
            if attrs.0.iter().any(|(n, _)| *n == attr) {
                return Err(self.wrong(format!("attribute `{attr}` is given twice")));
            }
            self.at += 2;
            let value = self.attr()?;
            attrs.0.push((attr, value));
        }
        let site = self.place()?;
        Ok(Head { results, name, at, operands, attrs, site })
    }

    /// Values with commas between them; none when the next word is no value.
    fn values(&mut self) -> Parsed<Vec<ValueId>> {
        let mut out = Vec::new();
        if !matches!(self.peek(), Token::Value(_)) {
            return Ok(out);
        }
        loop {
            let at = self.at;
            let name = self.value_name()?;
            match self.names.get(&name) {
                Some(&value) => out.push(value),
                None => return Err(self.wrong_at(format!("`%{name}` is not defined here"), at)),
            }
            if !self.take(',') {
                return Ok(out);
            }
        }
    }

    /// The text of an attribute: one word, or a list in brackets.
    fn attr(&mut self) -> Parsed<String> {
        if *self.peek() == Token::Mark('[') {
            return Ok(self.list()?.to_string());
        }
        match self.peek().clone() {
            Token::Word(word) => {
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.expected("the value of an attribute")),
        }
    }

    /// `[64, 32]`.
    fn list(&mut self) -> Parsed<Shape> {
        let at = self.at;
        self.mark('[')?;
        let mut extents = Vec::new();
        while !self.take(']') {
            extents.push(self.number::<usize>("an extent")?);
            if *self.peek() != Token::Mark(']') {
                self.mark(',')?;
            }
        }
        let help = "tiles have rank 0 to 3, and extents of 32 bits";
        Shape::new(&extents).ok_or_else(|| self.wrong_at("this is no shape of a tile", at).help(help))
    }

    fn ty(&mut self) -> Parsed<Type> {
        let at = self.at;
        let Token::Word(word) = self.peek().clone() else { return Err(self.expected("a type")) };
        self.at += 1;
        if word == "view" {
            self.mark('<')?;
            let elem = match self.peek() {
                Token::Word(word) => Elem::from_name(word),
                Token::Value(_) | Token::Text(_) | Token::Mark(_) | Token::End => None,
            };
            let elem = elem.ok_or_else(|| self.expected("an element type"))?;
            self.at += 1;
            self.mark(',')?;
            let rank = self.number::<u8>("the rank of a view")?;
            self.mark('>')?;
            return Ok(Type::View { elem, rank });
        }
        let Some(elem) = Elem::from_name(&word) else {
            let names = Elem::ALL.map(Elem::name).join(", ");
            return Err(self.wrong_at(format!("`{word}` is no element type"), at).help(format!("there are {names}")));
        };
        let shape = if *self.peek() == Token::Mark('[') { self.list()? } else { Shape::SCALAR };
        Ok(Type::tile(elem, shape))
    }

    /// `@ "file":line:column in function from "file":line:column …`, innermost first; may be absent.
    fn place(&mut self) -> Parsed<SiteId> {
        if !self.take('@') {
            return Ok(SiteId::UNKNOWN);
        }
        let mut places = vec![self.location()?];
        let mut functions = Vec::new();
        while *self.peek() == Token::Word("in".to_string()) {
            self.at += 1;
            functions.push(self.name("a function")?);
            self.word("from")?;
            places.push(self.location()?);
        }
        let mut frame = None;
        let mut site = SiteId::UNKNOWN;
        let mut functions = functions.into_iter().rev();
        for location in places.into_iter().rev() {
            let here = Site { location, frame };
            site = match self.sites.get(&here) {
                Some(&id) => id,
                None => {
                    let id = self.kernel.sites.add(here.clone());
                    self.sites.insert(here, id);
                    id
                }
            };
            if let Some(function) = functions.next() {
                let call = Frame { function: Cow::Owned(function), called_at: site };
                frame = Some(match self.frames.get(&call) {
                    Some(&id) => id,
                    None => {
                        let id = self.kernel.sites.add_frame(call.clone());
                        self.frames.insert(call, id);
                        id
                    }
                });
            }
        }
        Ok(site)
    }

    fn location(&mut self) -> Parsed<Location> {
        let Token::Text(file) = self.peek().clone() else { return Err(self.expected("a file in double quotes")) };
        self.at += 1;
        self.mark(':')?;
        let line = self.number("a line")?;
        self.mark(':')?;
        let column = self.number("a column")?;
        Ok(Location { file: Cow::Owned(file), line, column })
    }

    fn define(&mut self, name: String, value: ValueId, at: usize) -> Parsed<()> {
        if self.names.contains_key(&name) {
            return Err(self.wrong_at(format!("`%{name}` is defined already"), at));
        }
        self.names.insert(name, value);
        Ok(())
    }

    fn value_name(&mut self) -> Parsed<String> {
        match self.peek().clone() {
            Token::Value(name) => {
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.expected("a value")),
        }
    }

    fn name(&mut self, what: &str) -> Parsed<String> {
        match self.peek().clone() {
            Token::Word(name) if is_plain(&name) => {
                self.at += 1;
                Ok(name)
            }
            Token::Text(name) => {
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.expected(what)),
        }
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Parsed<T> {
        let number = match self.peek() {
            Token::Word(word) => word.parse().ok(),
            Token::Value(_) | Token::Text(_) | Token::Mark(_) | Token::End => None,
        };
        let number = number.ok_or_else(|| self.expected(what))?;
        self.at += 1;
        Ok(number)
    }

    fn word(&mut self, wanted: &str) -> Parsed<()> {
        if *self.peek() != Token::Word(wanted.to_string()) {
            return Err(self.expected(&format!("`{wanted}`")));
        }
        self.at += 1;
        Ok(())
    }

    fn mark(&mut self, wanted: char) -> Parsed<()> {
        if self.take(wanted) { Ok(()) } else { Err(self.expected(&format!("`{wanted}`"))) }
    }

    fn take(&mut self, mark: char) -> bool {
        let there = *self.peek() == Token::Mark(mark);
        self.at += usize::from(there);
        there
    }

    fn lexeme(&self, at: usize) -> &Lexeme {
        // The list ends with `End`, and is never empty.
        &self.words[at.min(self.words.len() - 1)]
    }

    fn peek(&self) -> &Token {
        &self.lexeme(self.at).token
    }

    fn peek_second(&self) -> &Token {
        &self.lexeme(self.at + 1).token
    }

    fn region(&mut self, id: RegionId) -> &mut crate::kernel::Region {
        &mut self.kernel.regions[id.index()] // the parser makes regions before it fills them
    }

    fn expected(&self, what: &str) -> Diagnostic {
        self.wrong(format!("expected {what}, found {}", self.peek().describe()))
    }

    fn wrong(&self, message: impl Into<String>) -> Diagnostic {
        self.wrong_at(message, self.at)
    }

    fn wrong_at(&self, message: impl Into<String>, at: usize) -> Diagnostic {
        let Lexeme { line, column, .. } = *self.lexeme(at);
        mistake(message, line, column)
    }

    fn unknown_op(&self, name: &str, at: usize) -> Diagnostic {
        let error = self.wrong_at(format!("there is no op `{name}`"), at);
        match Op::names().min_by_key(|known| distance(name, known)) {
            Some(near) if distance(name, near) <= 2 => error.help(format!("did you mean `{near}`?")),
            _ => error,
        }
    }
}

/// How many letters must be added, dropped or changed to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
