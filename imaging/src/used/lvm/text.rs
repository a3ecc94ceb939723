//! The text that LVM2 keeps its metadata in: sections, strings, numbers and lists.

use crate::used::Untrusted;

/// Volume groups nest four deep.
const DEPTH_MAX: usize = 8;

/// One value of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(u64),
    List(Vec<Value>),
    Section(Section),
}

/// Names with their values, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Section(Vec<(String, Value)>);

impl Section {
    pub(super) fn get(&self, name: &str) -> Result<&Value, Untrusted> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
            .ok_or_else(|| Untrusted::new(format!("its metadata has no {name}")))
    }

    pub(super) fn number(&self, name: &str) -> Result<u64, Untrusted> {
        match self.get(name)? {
            Value::Number(number) => Ok(*number),
            _ => Err(Untrusted::new(format!(
                "{name} in its metadata is no number"
            ))),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<&str, Untrusted> {
        match self.get(name)? {
            Value::Text(text) => Ok(text),
            _ => Err(Untrusted::new(format!("{name} in its metadata is no text"))),
        }
    }

    pub(super) fn list(&self, name: &str) -> Result<&[Value], Untrusted> {
        match self.get(name)? {
            Value::List(list) => Ok(list),
            _ => Err(Untrusted::new(format!("{name} in its metadata is no list"))),
        }
    }

    /// The section of that name; empty when there is none.
    pub(super) fn sections_in(&self, name: &str) -> impl Iterator<Item = (&str, &Section)> {
        let inner = match self.get(name) {
            Ok(Value::Section(section)) => Some(section),
            _ => None,
        };
        inner.into_iter().flat_map(Self::sections)
    }

    pub(super) fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.0.iter().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((name.as_str(), section)),
            _ => None,
        })
    }
}

/// Parses the whole text; its length bounds what is made of it.
pub(super) fn parse(text: &str) -> Result<Section, Untrusted> {
    let mut parser = Parser { rest: text };
    let section = parser.section(0)?;
    if parser.rest.is_empty() {
        Ok(section)
    } else {
        Err(parser.confused())
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn confused(&self) -> Untrusted {
        let near: String = self.rest.chars().take(20).collect();
        Untrusted::new(format!("its metadata makes no sense near {near:?}"))
    }

    fn skip_space(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.strip_prefix('#') {
                Some(comment) => {
                    self.rest = comment.split_once('\n').map_or("", |(_, next)| next);
                }
                None => return,
            }
        }
    }

    fn take(&mut self, token: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> Result<&'a str, Untrusted> {
        self.skip_space();
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "_.+-".contains(c)))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return Err(self.confused());
        }
        self.rest = rest;
        Ok(word)
    }

    /// Up to the closing brace, or at the top the end of the text.
    fn section(&mut self, depth: usize) -> Result<Section, Untrusted> {
        if depth > DEPTH_MAX {
            return Err(self.confused());
        }
        let mut section = Section::default();
        loop {
            self.skip_space();
            if self.rest.is_empty() && depth == 0 {
                return Ok(section);
            }
            if depth > 0 && self.take('}') {
                return Ok(section);
            }
            let name = self.word()?.to_owned();
            let value = if self.take('{') {
                Value::Section(self.section(depth + 1)?)
            } else if self.take('=') {
                self.value(depth)?
            } else {
                return Err(self.confused());
            };
            section.0.push((name, value));
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Untrusted> {
        if depth > DEPTH_MAX {
            return Err(self.confused());
        }
        if self.take('"') {
            return self.string().map(Value::Text);
        }
        if !self.take('[') {
            let word = self.word()?;
            // Only counts and sizes matter here; a negative or broken number is none of these.
            return Ok(word
                .parse()
                .map_or_else(|_| Value::Text(word.into()), Value::Number));
        }
        let mut list = Vec::new();
        while !self.take(']') {
            list.push(self.value(depth + 1)?);
            self.take(',');
        }
        Ok(Value::List(list))
    }

    fn string(&mut self) -> Result<String, Untrusted> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(text);
                }
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                other => text.push(other),
            }
        }
        Err(self.confused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sections_strings_numbers_and_lists_are_read() {
        let parsed = parse(
            "vg {\nid = \"a\\\"b\" # a comment\nsize=7\nnone = []\nlist = [\"pv0\", 3]\n}\nlast = -1",
        )
        .unwrap();
        let (name, group) = parsed.sections().next().unwrap();
        assert_eq!(name, "vg");
        assert_eq!(group.text("id").unwrap(), "a\"b");
        assert_eq!(group.number("size").unwrap(), 7);
        assert_eq!(
            group.list("list").unwrap(),
            [Value::Text("pv0".into()), Value::Number(3)]
        );
        assert_eq!(
            group.number("seqno").unwrap_err().to_string(),
            "its metadata has no seqno"
        );
    }

    #[test]
    fn an_open_section_is_a_doubt() {
        assert_eq!(
            parse("vg { a = 1").unwrap_err().to_string(),
            "its metadata makes no sense near \"\""
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z{}\\[\\]=\", \n#\\\\0-9]{0,200}") {
            let _ = parse(&text);
        }
    }
}
