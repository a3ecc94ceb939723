//! Bech32 (BIP 173), as age writes its keys: a word, a 1, and bytes in 32 signs with a checksum.
//! What is read may be secret: each copy of it is overwritten when it goes.

use zeroize::Zeroizing;

const SIGNS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const CHECKSUM: usize = 6;

/// The bytes that `text` stands for behind the word `prefix`, in lower case; `None` where it is anything else.
pub fn decode(text: &str, prefix: &str) -> Option<Zeroizing<Vec<u8>>> {
    let is_mixed = text.bytes().any(|it| it.is_ascii_lowercase())
        && text.bytes().any(|it| it.is_ascii_uppercase());
    if is_mixed || !text.is_ascii() {
        return None;
    }
    let text = Zeroizing::new(text.to_ascii_lowercase());
    let data = text.strip_prefix(prefix)?.strip_prefix('1')?;
    // With all its room from the beginning: what grows leaves copies behind.
    let mut values = Zeroizing::new(Vec::<u8>::with_capacity(data.len()));
    for sign in data.bytes() {
        let at = SIGNS.iter().position(|it| *it == sign)?;
        values.push(u8::try_from(at).ok()?);
    }
    let high = prefix.bytes().map(|byte| byte >> 5);
    let low = prefix.bytes().map(|byte| byte & 31);
    let checked = high.chain([0]).chain(low).chain(values.iter().copied());
    if polymod(checked) != 1 {
        return None;
    }
    to_bytes(&values[..values.len().checked_sub(CHECKSUM)?])
}

/// The checksum's remainder.
fn polymod(values: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [
        0x3b6a_57b2,
        0x2650_8e6d,
        0x1ea1_19fa,
        0x3d42_33dd,
        0x2a14_62b3,
    ];
    values.fold(1, |sum: u32, value| {
        let top = sum >> 25;
        let sum = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
        (0..5)
            .filter(|bit| top >> bit & 1 == 1)
            .fold(sum, |sum, bit| sum ^ GENERATOR[bit])
    })
}

/// Groups of five bits as bytes. What is left over has to be less than a group, and zeros.
fn to_bytes(values: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (mut held, mut bits) = (0u32, 0);
    let mut bytes = Zeroizing::new(Vec::<u8>::with_capacity(values.len()));
    for value in values {
        held = held << 5 | u32::from(*value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    (bits < 5 && held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // From age's own documentation.
    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn a_key_is_thirty_two_bytes_and_one_wrong_sign_is_noticed() {
        assert_eq!(decode(RECIPIENT, "age").unwrap().len(), 32);
        assert!(decode(&RECIPIENT.to_uppercase(), "age").is_some());
        assert_eq!(decode(RECIPIENT, "ag"), None);
        for at in 4..RECIPIENT.len() {
            let mut wrong = RECIPIENT.to_owned();
            let sign = if wrong.as_bytes()[at] == b'q' {
                "p"
            } else {
                "q"
            };
            wrong.replace_range(at..=at, sign);
            assert_eq!(decode(&wrong, "age"), None, "{wrong}");
        }
        let mixed = RECIPIENT.replacen('q', "Q", 1);
        for wrong in ["", "age", "age1", "age1qqqqq", mixed.as_str()] {
            assert_eq!(decode(wrong, "age"), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(age1)?\\PC{0,80}") {
            let _ = decode(&text, "age");
        }
    }
}
