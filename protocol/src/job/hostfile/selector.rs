//! One entry of `disks`, as written.

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use std::fmt;

/// `"sda"`, `{ serial = "…" }` or `{ wwn = "…" }`.
#[derive(Debug, Clone, PartialEq)]
pub enum WrittenSelector {
    Name(String),
    Serial(String),
    Wwn(String),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    serial: Option<String>,
    wwn: Option<String>,
}

/// By hand: serde's untagged enums say only that nothing matched.
impl<'de> Deserialize<'de> for WrittenSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Entry)
    }
}

struct Entry;

impl<'de> Visitor<'de> for Entry {
    type Value = WrittenSelector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a disk name or { serial = \"…\" } or { wwn = \"…\" }")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<WrittenSelector, E> {
        Ok(WrittenSelector::Name(name.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WrittenSelector, A::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        match (table.serial, table.wwn) {
            (Some(serial), None) => Ok(WrittenSelector::Serial(serial)),
            (None, Some(wwn)) => Ok(WrittenSelector::Wwn(wwn)),
            (None, None) => Err(de::Error::custom("a disk needs serial or wwn")),
            (Some(_), Some(_)) => Err(de::Error::custom(
                "a disk is named by serial or by wwn, not by both",
            )),
        }
    }
}
