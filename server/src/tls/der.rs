//! Just enough of X.509 (RFC 5280 4.1) to say of a certificate whom it names and until when: DER, one value after the other.
//!
//! Whether a certificate is right is for rustls to say; `x509-parser` knows much more, and brings much more.

use super::certificate::Name;
use jiff::Timestamp;
use jiff::civil::DateTime;
use std::net::IpAddr;

/// Tags (X.690 8.1.2; RFC 5280 appendix A).
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// 2.5.4.3 and 2.5.29.17.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];

/// What a certificate says, as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<'a> {
    /// The whole names of who signed it and whom it is of, encoded.
    pub issuer: &'a [u8],
    pub subject: &'a [u8],
    pub common_name: Option<&'a str>,
    pub from: Timestamp,
    pub until: Timestamp,
    /// The public key with its kind, encoded.
    pub key: &'a [u8],
    pub names: Vec<Name>,
}

/// Values of one level.
#[derive(Clone, Copy)]
struct Values<'a>(&'a [u8]);

struct Value<'a> {
    tag: u8,
    content: &'a [u8],
    /// With tag and length.
    whole: &'a [u8],
}

impl<'a> Values<'a> {
    fn next(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        // X.690 8.1.3: up to 127 in one byte, else the number of bytes that it takes.
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                (length, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Value {
            tag,
            content,
            whole,
        })
    }

    /// The next value, which has this tag.
    fn expect(&mut self, tag: u8) -> Option<Value<'a>> {
        self.next().filter(|value| value.tag == tag)
    }
}

impl<'a> Read<'a> {
    /// `None` where it is no certificate.
    pub fn certificate(bytes: &'a [u8]) -> Option<Self> {
        let mut outside = Values(bytes);
        let certificate = outside.expect(SEQUENCE)?;
        if !outside.0.is_empty() {
            return None;
        }
        let mut fields = Values(Values(certificate.content).expect(SEQUENCE)?.content);
        let mut serial = fields.next()?;
        if serial.tag == VERSION {
            serial = fields.next()?;
        }
        let _signature = fields.next().filter(|_| !serial.content.is_empty())?;
        let issuer = fields.expect(SEQUENCE)?.whole;
        let mut validity = Values(fields.expect(SEQUENCE)?.content);
        let (from, until) = (time(&validity.next()?)?, time(&validity.next()?)?);
        let subject = fields.expect(SEQUENCE)?;
        let key = fields.expect(SEQUENCE)?.whole;
        let mut names = Vec::new();
        while let Some(field) = fields.next() {
            if field.tag == EXTENSIONS {
                names = alternative_names(field.content)?;
            }
        }
        Some(Self {
            issuer,
            common_name: common_name(subject.content),
            subject: subject.whole,
            from,
            until,
            key,
            names,
        })
    }
}

/// RFC 5280 4.1.2.5: UTC, with seconds; two digits of a year are of 1950 to 2049.
fn time(value: &Value<'_>) -> Option<Timestamp> {
    let text = std::str::from_utf8(value.content).ok()?.strip_suffix('Z')?;
    let digits = match value.tag {
        UTC_TIME => {
            let century = if text.get(..2)? < "50" { "20" } else { "19" };
            format!("{century}{text}")
        }
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    if digits.len() != 14 {
        return None;
    }
    let time = DateTime::strptime("%Y%m%d%H%M%S", digits).ok()?;
    time.in_tz("UTC").ok().map(|zoned| zoned.timestamp())
}

/// Of relative names, each a set of pairs, the last common name.
fn common_name(name: &[u8]) -> Option<&str> {
    let mut found = None;
    let mut sets = Values(name);
    while let Some(set) = sets.expect(SET) {
        let mut pair = Values(Values(set.content).expect(SEQUENCE)?.content);
        if pair.expect(OID)?.content == COMMON_NAME {
            found = std::str::from_utf8(pair.next()?.content).ok();
        }
    }
    found
}

/// RFC 5280 4.2.1.6. Names of other kinds, and wildcards too long to be names, are left out.
fn alternative_names(extensions: &[u8]) -> Option<Vec<Name>> {
    let mut names = Vec::new();
    let mut list = Values(Values(extensions).expect(SEQUENCE)?.content);
    while let Some(extension) = list.expect(SEQUENCE) {
        let mut parts = Values(extension.content);
        if parts.expect(OID)?.content != SUBJECT_ALT_NAME {
            continue;
        }
        // Whether it is critical may stand before it.
        let mut value = parts.next()?;
        if value.tag != OCTETS {
            value = parts.expect(OCTETS)?;
        }
        let mut all = Values(Values(value.content).expect(SEQUENCE)?.content);
        while let Some(name) = all.next() {
            names.extend(general_name(&name));
        }
    }
    Some(names)
}

fn general_name(value: &Value<'_>) -> Option<Name> {
    match value.tag {
        // It may be a wildcard, which is the name of no host.
        DNS_NAME => {
            let name = std::str::from_utf8(value.content).ok()?;
            Some(Name::Dns(name.to_ascii_lowercase()))
        }
        IP_ADDRESS => {
            let v4 = <[u8; 4]>::try_from(value.content).map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(value.content).map(IpAddr::from);
            v4.or_else(|_| v6()).ok().map(Name::Ip)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, date_time_ymd};

    #[test]
    fn a_certificate_says_its_names_and_dates() {
        let names = ["srv.example", "*.lab.example", "10.0.0.1", "2001:db8::7"];
        let mut params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        // Either side of 2050 is written in another way.
        params.not_before = date_time_ymd(2026, 11, 29);
        params.not_after = date_time_ymd(2051, 1, 2);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let read = Read::certificate(made.der()).unwrap();
        let shown: Vec<String> = read.names.iter().map(ToString::to_string).collect();
        assert_eq!(shown, names);
        assert_eq!(read.common_name, Some("rcgen self signed cert"));
        assert_eq!(read.from.to_string(), "2026-11-29T00:00:00Z");
        assert_eq!(read.until.to_string(), "2051-01-02T00:00:00Z");
        assert_eq!(read.issuer, read.subject);
        assert_eq!(read.key, key.subject_public_key_info());
        for length in 0..made.der().len() {
            assert_eq!(Read::certificate(&made.der()[..length]), None);
        }
        let longer = [made.der().as_ref(), &[0]].concat();
        assert_eq!(Read::certificate(&longer), None);
    }

    proptest! {
        #[test]
        fn what_is_no_certificate_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Read::certificate(&bytes), None);
        }

        #[test]
        fn a_certificate_that_was_changed_is_read_or_refused(at in 0_usize..400, byte: u8) {
            let made = rcgen::generate_simple_self_signed(["srv.example".to_owned()]).unwrap();
            let mut bytes = made.cert.der().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Read::certificate(&bytes);
        }
    }
}
