//! Shell patterns as `modules.alias` has them: `*`, `?`, `[a-z]`, `[!a-z]`, `\` before a plain character.

/// Whether `text` as a whole is what `pattern` describes. An unclosed `[` matches nothing.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut here) = (0, 0);
    // Where the last star was, and how much of the text it has taken: the only place to go back to.
    let mut star: Option<(usize, usize)> = None;
    while here < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, here));
            at += 1;
        } else if let Some(next) = one(pattern, at, text[here]) {
            at = next;
            here += 1;
        } else if let Some((after, taken)) = star {
            star = Some((after, taken + 1));
            at = after;
            here = taken + 1;
        } else {
            return false;
        }
    }
    pattern[at.min(pattern.len())..]
        .iter()
        .all(|&byte| byte == b'*')
}

/// Where the pattern goes on after it matched `byte` at `at`.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => set(pattern, at + 1, byte),
        b'\\' => (*pattern.get(at + 1)? == byte).then_some(at + 2),
        plain => (plain == byte).then_some(at + 1),
    }
}

/// `at` is behind the `[`.
fn set(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(negated);
    let begin = at;
    let mut hit = false;
    loop {
        let low = *pattern.get(at)?;
        // A bracket that is first stands for itself.
        if low == b']' && at > begin {
            return (hit != negated).then_some(at + 1);
        }
        let high = match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(&high)) if high != b']' => {
                at += 2;
                high
            }
            _ => low,
        };
        hit |= (low..=high).contains(&byte);
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn real_aliases_match_real_devices() {
        let virtio = "virtio:d00000001v00001AF4";
        assert!(matches("virtio:d00000001v*", virtio));
        assert!(!matches("virtio:d00000002v*", virtio));
        let e1000 = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00";
        assert!(matches("pci:v00008086d0000100Esv*sd*bc*sc*i*", e1000));
        assert!(matches("pci:v*d*sv*sd*bc02sc00i*", e1000));
        assert!(!matches("pci:v*d*sv*sd*bc01sc06i01*", e1000));
        let stick = "usb:v0951p1666d0110dc00dsc00dp00ic08isc06ip50in00";
        assert!(matches(
            "usb:v0951p1666d01[0-9]*dc*dsc*dp*ic08isc06ip50in*",
            stick
        ));
        assert!(!matches("usb:v*p*d00[!0-4]*dc*", stick));
        assert!(matches("acpi*:LNXSYSTM:*", "acpi:LNXSYSTM:"));
    }

    #[test]
    fn the_corners_of_patterns() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*", "", false),
            ("**a", "xxa", true),
            ("a?c", "abc", true),
            ("[", "[", false),
            ("[]]", "]", true),
            ("[a-]", "-", true),
            ("[^a]", "b", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a", false),
            ("*a*b", "aXbYb", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_on_any_text_ends(pattern in "[\\[\\]!^a-c*?\\\\-]{0,24}", text in "[a-c\\]]{0,40}") {
            let _ = matches(&pattern, &text);
        }

        #[test]
        fn plain_text_matches_itself_and_under_a_star(text in "[a-zA-Z0-9:]{0,40}", cut in 0usize..40) {
            prop_assert!(matches(&text, &text));
            let pattern = format!("{}*", &text[..cut.min(text.len())]);
            prop_assert!(matches(&pattern, &text));
        }
    }
}
