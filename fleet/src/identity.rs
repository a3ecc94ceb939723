//! What a machine is known by, as people and programs write it.

use pitstop_protocol::host_name::{Mac, Uuid};

/// A card's address: as everywhere, or twelve digits as in `5254.0012.3456` and `525400123456`.
pub(crate) fn mac(text: &str) -> Result<Mac, String> {
    let digits: String = text.chars().filter(|c| *c != '.').collect();
    let bare = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let spelled = if bare {
        let pairs: Vec<&str> = (0..12).step_by(2).map(|at| &digits[at..at + 2]).collect();
        pairs.join(":")
    } else {
        text.to_owned()
    };
    spelled
        .parse()
        .map_err(|_| format!("{text:?} is not the MAC address of a card: write 52:54:00:12:34:56"))
}

/// A firmware's UUID, in capital or small letters, with dashes or without.
pub(crate) fn uuid(text: &str) -> Result<Uuid, String> {
    Uuid::parse(&text.to_ascii_lowercase())
        .ok_or_else(|| format!("{text:?} is not the UUID of a machine"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_spellings_of_a_card_are_one() {
        let card: Mac = "52:54:00:ab:34:56".parse().unwrap();
        for text in [
            "52:54:00:AB:34:56",
            "52-54-00-ab-34-56",
            "5254.00ab.3456",
            "525400AB3456",
        ] {
            assert_eq!(mac(text), Ok(card), "{text}");
        }
        for text in [
            "",
            "52:54:00:12:34",
            "ff:ff:ff:ff:ff:ff",
            "000000000000",
            "52540012345g",
        ] {
            assert!(mac(text).is_err(), "{text}");
        }
        assert!(uuid("00112233-4455-6677-8899-AABBCCDDEEFF").is_ok());
        assert!(uuid("00000000-0000-0000-0000-000000000000").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,20}", digits in "[0-9a-fé.]{10,14}") {
            let _ = (mac(&text), uuid(&text), mac(&digits), uuid(&digits));
        }
    }
}
