use super::*;
use proptest::prelude::*;

fn now() -> Timestamp {
    "2026-11-29T12:00:00Z".parse().unwrap()
}

fn hash() -> Hash {
    Hash("$argon2id$v=19$secret".into())
}

fn book(users: &[(&str, Role)]) -> Book {
    let mut book = Book::default();
    for (name, role) in users {
        book.add(name, *role, hash(), now()).unwrap();
    }
    book
}

fn of(user: &str, role: Option<Role>) -> Wanted {
    Wanted {
        user: user.into(),
        role,
        ..Wanted::default()
    }
}

fn token(digit: char) -> NewToken {
    NewToken {
        name: digit.to_string().repeat(8),
        secret: Secret::fixed(digit),
    }
}

#[test]
fn the_file_reads_back_and_has_no_secret_in_it() {
    let mut book = book(&[("ann", Role::Admin), ("bob.b@lab", Role::Viewer)]);
    let shown = token('a');
    let ends = Wanted {
        expires: Some("2026-12-01T12:00:00Z".parse().unwrap()),
        ..of("ann", None)
    };
    book.add_token(&shown, &ends, now()).unwrap();
    let text = book.to_toml().unwrap();
    assert!(!text.contains(shown.secret.as_str()), "{text}");
    let again = Book::parse(&text).unwrap();
    assert_eq!((again.users, again.tokens), (book.users, book.tokens));
}

#[test]
fn what_is_wrong_is_told_by_its_line_and_not_shown() {
    let good = book(&[("ann", Role::Admin)]).to_toml().unwrap();
    for (text, why) in [
        (good.replace("admin", "s3cr3t"), "line "),
        (good.replace("version = 1", "version = 2"), "version = 2"),
        (good.replace("role", "rool"), "line "),
        (
            good.replace("password = \"", "password = s3cr3t\""),
            "line ",
        ),
        (
            good.replace("[user.ann]", "[user.\"a b\"]"),
            "a user's name",
        ),
        (String::new(), "missing field"),
        (
            format!(
                "{good}[token.x]\nuser = \"eve\"\nrole = \"admin\"\nhash = \"\"\nmade = \"2026-11-29T12:00:00Z\"\n"
            ),
            "\"eve\", who is no user",
        ),
    ] {
        let error = Book::parse(&text).unwrap_err();
        assert!(error.contains(why) && !error.contains("s3cr3t"), "{error}");
        assert!(!error.contains("argon2"), "{error}");
    }
}

#[test]
fn the_last_admin_stays_unless_it_is_meant() {
    let mut book = book(&[("ann", Role::Admin), ("bob", Role::Operator)]);
    let last = Refused::LastAdmin("ann".into());
    assert_eq!(book.remove("ann", false), Err(last.clone()));
    assert_eq!(book.set_role("ann", Role::Viewer, false), Err(last));
    book.set_role("bob", Role::Admin, false).unwrap();
    book.remove("ann", false).unwrap();
    book.remove("bob", true).unwrap();
    assert!(book.is_empty());
    assert_eq!(book.remove("bob", true), Err(Refused::NoUser("bob".into())));
}

#[test]
fn one_name_is_one_person() {
    let mut book = book(&[("ann", Role::Viewer)]);
    let again = book.add("Ann", Role::Admin, hash(), now());
    assert_eq!(again, Err(Refused::Exists("ann".into())));
    assert!(matches!(
        book.add("a b", Role::Admin, hash(), now()),
        Err(Refused::Name(_))
    ));
    assert!(book.lacks_admin());
}

#[test]
fn a_token_has_at_most_its_users_role_and_ends() {
    let mut book = book(&[("ann", Role::Admin), ("bob", Role::Operator)]);
    let beyond = book.add_token(&token('a'), &of("bob", Some(Role::Admin)), now());
    assert!(matches!(beyond, Err(Refused::Beyond { .. })));
    let end = "2026-12-01T12:00:00Z".parse().unwrap();
    let ends = Wanted {
        expires: Some(end),
        ..of("bob", None)
    };
    book.add_token(&token('a'), &ends, now()).unwrap();
    let over = Wanted {
        expires: Some(now()),
        ..of("bob", None)
    };
    assert_eq!(
        book.add_token(&token('b'), &over, now()),
        Err(Refused::Expired)
    );
    let less = of("ann", Some(Role::Viewer));
    book.add_token(&token('b'), &less, now()).unwrap();
    let lines = Wanted {
        note: "a\nb".into(),
        ..less
    };
    assert_eq!(
        book.add_token(&token('c'), &lines, now()),
        Err(Refused::Note)
    );
    let found = |book: &Book, digit, now| {
        let found = book.find_token(&token(digit), now);
        found.map(|(user, role)| (user.to_owned(), role))
    };
    assert_eq!(
        found(&book, 'a', now()),
        Some(("bob".into(), Role::Operator))
    );
    assert_eq!(found(&book, 'b', now()), Some(("ann".into(), Role::Viewer)));
    assert_eq!(found(&book, 'a', end), None);
    let forged = NewToken {
        secret: Secret::fixed('c'),
        ..token('a')
    };
    assert_eq!(book.find_token(&forged, now()), None);
    book.set_role("bob", Role::Viewer, false).unwrap();
    assert_eq!(found(&book, 'a', now()), Some(("bob".into(), Role::Viewer)));
    book.remove("bob", false).unwrap();
    assert_eq!(found(&book, 'a', now()), None);
    book.revoke(&token('b').name).unwrap();
    assert_eq!(found(&book, 'b', now()), None);
    let none = book.revoke("bbbbbbbb").unwrap_err();
    assert_eq!(none, Refused::NoToken("bbbbbbbb".into()));
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,200}", cut in 0usize..600) {
        let _ = Book::parse(&text);
        let good = book(&[("ann", Role::Admin), ("bob", Role::Viewer)]).to_toml().unwrap();
        let cut = good.get(..cut.min(good.len())).unwrap_or_default();
        let _ = Book::parse(cut);
        let _ = Book::parse(&format!("{cut}{text}"));
    }

    #[test]
    fn any_users_read_back(names in proptest::collection::btree_set("[a-z0-9][a-z0-9._@-]{0,20}", 0..8)) {
        let mut made = Book::default();
        for (name, role) in names.iter().zip(Role::ALL.into_iter().cycle()) {
            made.add(name, role, hash(), now()).unwrap();
        }
        let again = Book::parse(&made.to_toml().unwrap()).unwrap();
        prop_assert_eq!(again.users, made.users);
    }
}
