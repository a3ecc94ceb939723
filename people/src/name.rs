//! Names of users: short, and the same in a file, a URL, a log and a terminal.

/// Bytes, at most.
const LONGEST: usize = 64;

/// Checks a user's name.
///
/// # Errors
/// A sentence about what it should be.
pub fn valid_name(name: &str) -> Result<(), String> {
    let first = name.bytes().next();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    if first.is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.len() <= LONGEST
        && name.bytes().all(plain)
    {
        return Ok(());
    }
    Err(format!(
        "a user's name has 1 to {LONGEST} of the characters a-z A-Z 0-9 . _ - @ and begins with a letter or a digit"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["ann", "ann.b@lab", "a", "7of9", &"a".repeat(64)] {
            assert_eq!(valid_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-ann",
            ".ann",
            "ann b",
            "ann\n",
            "änn",
            "a/b",
            "a\"b",
            &"a".repeat(65),
        ] {
            assert!(valid_name(bad).is_err(), "{bad}");
        }
    }
}
