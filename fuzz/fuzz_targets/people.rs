//! What strangers show of themselves, and the users file: no panic, and what was read is written so that it reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pitstop_people::{Book, COOKIE, NewToken, Secret, bearer, cookie};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    for shown in [bearer(text), cookie(text, COOKIE), Some(text)] {
        let shown = shown.unwrap_or_default();
        if let Some(token) = NewToken::parse(shown) {
            assert_eq!(token.text(), shown);
        }
        if let Some(secret) = Secret::parse(shown) {
            assert_eq!(secret.as_str(), shown);
        }
    }
    if let Ok(book) = Book::parse(text) {
        let written = book.to_toml().expect("a book that cannot be written");
        assert_eq!(Book::parse(&written).as_ref(), Ok(&book), "{written}");
    }
});
