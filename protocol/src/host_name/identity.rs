//! What a machine is known by beside its address.

use std::fmt;
use std::str::FromStr;

/// The hardware address of one machine's card: not a group's, not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

/// The firmware's system UUID, as SMBIOS 2.6 and later, the kernel, iPXE and `dmidecode` write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

/// A text that is not a hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a MAC address like 52:54:00:12:34:56")]
pub struct NotAMac;

impl Mac {
    /// `52-54-00-12-34-56`, as PXELINUX writes it.
    pub fn dashed(self) -> String {
        self.0.map(|byte| format!("{byte:02x}")).join("-")
    }

    /// Twelve hex digits and nothing between them.
    pub(super) fn from_digits(text: &str) -> Option<Self> {
        let bytes = hex_bytes(text)?;
        Self::of_one_card(bytes)
    }

    fn of_one_card(bytes: [u8; 6]) -> Option<Self> {
        (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }
}

impl FromStr for Mac {
    type Err = NotAMac;

    /// Six pairs of hex digits with colons or dashes between them.
    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut bytes = [0; 6];
        let mut pairs = text.split([':', '-']);
        for byte in &mut bytes {
            let pair = pairs.next().ok_or(NotAMac)?;
            [*byte] = hex_bytes(pair).ok_or(NotAMac)?;
        }
        match pairs.next() {
            None => Self::of_one_card(bytes).ok_or(NotAMac),
            Some(_) => Err(NotAMac),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dashed().replace('-', ":"))
    }
}

impl Uuid {
    /// 32 hex digits with dashes after the 8th, 12th, 16th and 20th, or in small letters and without dashes. `None`, too,
    /// for what firmware without one writes: zeros or ones, which every such machine would share.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = if text.contains('-') {
            let lengths: Vec<usize> = text.split('-').map(str::len).collect();
            if lengths != [8, 4, 4, 4, 12] {
                return None;
            }
            text.replace('-', "")
        } else if text.bytes().any(|b| matches!(b, b'a'..=b'f')) {
            text.to_owned()
        } else {
            // 32 digits in capitals are an IPv6 address.
            return None;
        };
        let bytes: [u8; 16] = hex_bytes(&digits)?;
        let blank = digits.bytes().all(|b| matches!(b, b'0' | b'f' | b'F'));
        (!blank).then_some(Self(bytes))
    }

    /// The same with the bytes of its first three fields turned around, as PXELINUX writes it and firmware before
    /// SMBIOS 2.6 meant it (SMBIOS 7.2.1).
    #[must_use]
    pub fn turned(self) -> Self {
        let mut bytes = self.0;
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        Self(bytes)
    }

    /// Both ways in which programs write it, this one first.
    pub fn spellings(self) -> [Self; 2] {
        [self, self.turned()]
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Exactly so many bytes of hex digits.
fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_one_cards() {
        let mac: Mac = "52:54:00:AB:12:34".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:12:34");
        assert_eq!(mac.dashed().parse(), Ok(mac));
        for wrong in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:56:78",
            "+2:54:00:12:34:56",
            "5:54:00:12:34:56",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
        ] {
            assert_eq!(wrong.parse::<Mac>(), Err(NotAMac), "{wrong}");
        }
    }

    #[test]
    fn a_uuid_turns_around_and_back() {
        let uuid = Uuid::parse("00112233-4455-6677-8899-AABBCCDDEEFF").unwrap();
        assert_eq!(uuid.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(
            uuid.turned().to_string(),
            "33221100-5544-7766-8899-aabbccddeeff"
        );
        assert_eq!(uuid.turned().turned(), uuid);
        for wrong in [
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "00112233-4455-6677-8899-aabbccddeef",
            "001122334455-6677-8899-aabb-ccddeeff",
            "20010DB8000000000000000000000007",
            "",
        ] {
            assert_eq!(Uuid::parse(wrong), None, "{wrong}");
        }
    }
}
