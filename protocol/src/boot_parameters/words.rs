//! Splits a command line as the kernel does (`next_arg` in lib/cmdline.c): blanks separate, double
//! quotes keep blanks, quotes around a value or around the whole parameter are taken off.

/// `key`, and its value where there is a `=`. A UEFI loader such as iPXE's begins with the program's own name
/// (`pitstop.efi`), as a shell does: that is no parameter.
pub fn words(text: &str) -> Vec<(String, Option<String>)> {
    let raw = raw(text);
    let name = raw
        .first()
        .filter(|word| word.to_ascii_lowercase().ends_with(".efi") && !word.contains('='));
    let skipped = usize::from(name.is_some());
    raw.into_iter().skip(skipped).map(pair).collect()
}

/// The words as they stand, quotes included.
pub fn raw(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut quoted = false;
        let end = rest
            .find(|c: char| {
                quoted ^= c == '"';
                c.is_whitespace() && !quoted
            })
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        words.push(word);
        rest = after.trim_start();
    }
    words
}

pub fn pair(word: &str) -> (String, Option<String>) {
    let word = match word.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
        None => word,
    };
    match word.split_once('=') {
        None => (word.to_owned(), None),
        Some((key, value)) => {
            let value = match value.strip_prefix('"') {
                Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
                None => value,
            };
            (key.to_owned(), Some(value.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_keep_blanks_as_in_the_kernel() {
        let words = words(" quiet a=\"b c\" \"d=e f\" g=h\"i j\"\tk= l=\"open\n");
        let expected = [
            ("quiet", None),
            ("a", Some("b c")),
            ("d", Some("e f")),
            ("g", Some("h\"i j\"")),
            ("k", Some("")),
            ("l", Some("open\n")),
        ];
        let expected: Vec<(String, Option<String>)> = expected
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
            .collect();
        assert_eq!(words, expected);
    }

    proptest! {
        #[test]
        fn any_text_splits(text in ".{0,100}") {
            for (key, _) in words(&text) {
                prop_assert!(key.len() <= text.len());
            }
        }
    }
}
