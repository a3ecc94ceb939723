//! The address of a network card.

use std::fmt;
use std::str::FromStr;

/// Of one card: never a group's, never all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// `52-54-00-12-34-56`, as PXELINUX writes it.
    pub fn dashed(self) -> String {
        self.joined("-")
    }

    fn joined(self, separator: &str) -> String {
        self.0.map(|byte| format!("{byte:02x}")).join(separator)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.joined(":"))
    }
}

/// A text that is no card's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the MAC address of a card: write 52:54:00:12:34:56")]
pub struct BadMac(String);

impl FromStr for Mac {
    type Err = BadMac;

    /// Six pairs of hex digits with `:` or `-` between them, or twelve digits as in `5254.0012.3456` and `525400123456`.
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = || BadMac(text.to_owned());
        let digits: Vec<u8> = if text.contains([':', '-']) {
            let pairs: Vec<&str> = text.split([':', '-']).collect();
            if pairs.len() != 6 || pairs.iter().any(|pair| pair.len() != 2) {
                return Err(bad());
            }
            pairs.concat().into_bytes()
        } else {
            text.bytes().filter(|byte| *byte != b'.').collect()
        };
        if digits.len() != 12 {
            return Err(bad());
        }
        let mut mac = [0; 6];
        for (byte, pair) in mac.iter_mut().zip(digits.chunks(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(bad());
            };
            *byte = u8::try_from(high * 16 + low).map_err(|_| bad())?;
        }
        if mac[0] & 1 != 0 || mac == [0; 6] {
            return Err(bad());
        }
        Ok(Self(mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_spellings_of_a_card_are_one() {
        let mac: Mac = "52:54:00:ab:34:56".parse().unwrap();
        for text in [
            "52:54:00:AB:34:56",
            "52-54-00-ab-34-56",
            "5254.00ab.3456",
            "525400AB3456",
        ] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        assert_eq!(
            (mac.to_string().as_str(), mac.dashed().as_str()),
            ("52:54:00:ab:34:56", "52-54-00-ab-34-56")
        );
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:5",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "52:54:00:12:34:5g",
            "+2:54:00:12:34:56",
            "5:2540012:3456:78",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes in any::<[u8; 6]>(), noise in ".{0,20}") {
            let mac = Mac(bytes);
            let read: Result<Mac, _> = mac.to_string().parse();
            prop_assert_eq!(read.is_ok(), bytes[0] & 1 == 0 && bytes != [0; 6]);
            let _ = noise.parse::<Mac>();
        }
    }
}
