//! Bencoding, as torrents are written in (BEP 3).

use std::collections::BTreeMap;

/// A value. Keys of a dictionary come in the order of their bytes, which the standard wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Dictionary(BTreeMap<&'static str, Value>),
}

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => out.extend(format!("i{number}e").as_bytes()),
            Self::Bytes(bytes) => put_bytes(bytes, out),
            Self::List(values) => {
                out.push(b'l');
                for value in values {
                    value.put(out);
                }
                out.push(b'e');
            }
            Self::Dictionary(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    put_bytes(key.as_bytes(), out);
                    value.put(out);
                }
                out.push(b'e');
            }
        }
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(format!("{}:", bytes.len()).as_bytes());
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_standard_has_them() {
        let inner = Value::Dictionary(BTreeMap::from([
            ("spam", Value::List(vec![Value::text("a"), Value::text("")])),
            ("cow", Value::Number(0)),
            ("a b", Value::Bytes(vec![0xff, b':'])),
        ]));
        let all = Value::Dictionary(BTreeMap::from([
            ("z", inner),
            ("n", Value::Number(1 << 40)),
        ]));
        let expected = b"d1:ni1099511627776e1:zd3:a b2:\xff:3:cowi0e4:spaml1:a0:eee";
        assert_eq!(all.encode(), expected);
    }
}
