use super::*;
use jiff::Timestamp;
use proptest::prelude::*;

fn canonical(text: &str) -> String {
    Query::parse(text).unwrap().canonical()
}

fn wrong(text: &str) -> (String, String) {
    let error = Query::parse(text).unwrap_err();
    let place = text.get(error.place.clone()).unwrap();
    (place.to_owned(), error.message)
}

#[test]
fn a_search_is_read_as_it_is_meant() {
    for (text, read) in [
        ("", ""),
        ("  ", ""),
        (
            "ram<8GiB disk.model~\"EVO\"",
            "ram<\"8GiB\" disk.model~\"EVO\"",
        ),
        ("ram < 8GiB and evo", "ram<\"8GiB\" \"evo\""),
        ("a b or c d", "(\"a\" \"b\") or (\"c\" \"d\")"),
        ("not a b", "not (\"a\") \"b\""),
        ("NOT (a OR b)c", "not (\"a\" or \"b\") \"c\""),
        ("52:54:00", "\"52:54:00\""),
        ("\"not\" order", "\"not\" \"order\""),
        (
            "serial=\"a \\\"b\\\" \\\\ c\\d\"",
            "serial=\"a \\\"b\\\" \\\\ c\\\\d\"",
        ),
        ("RAM>=1 Last.When<30d", "ram>=\"1\" last.when<\"30d\""),
        ("model=OptiPlex(x)", "model=\"OptiPlex\" \"x\""),
    ] {
        assert_eq!(canonical(text), read, "{text}");
    }
}

#[test]
fn an_error_points_at_its_place() {
    for (text, place, message) in [
        ("ram<8GX", "8GX", "ram: \"8GX\" is not a size"),
        ("disk.modell~x", "disk.modell", "did you mean disk.model?"),
        ("health=ok", "health", "did you mean disk.health?"),
        ("xyzzy=1", "xyzzy", "there are name, group, "),
        ("model<3", "<", "model: it is a text"),
        ("ram~8", "~", "~ looks into texts"),
        ("ram==8GiB", "==", "write = for equal"),
        ("(a or b", "(", "never closed"),
        ("a)", ")", "never opened"),
        ("a \"b", "\"", "never closed"),
        ("a or", "", "missing at the end"),
        ("ram<", "", "a value is missing after ram<"),
        ("or b", "or", "stands between"),
        ("< 3", "<", "a field is missing"),
        ("disk.health=good", "good", "none of ok, failing, unknown"),
        ("cores=two", "two", "is not a number"),
        ("last.when=30d", "=", "exactly 30d ago"),
        ("\"ram\"<3", "\"ram\"", "without quotes"),
        ("ä ö ram<ü", "ü", "is not a size"),
    ] {
        let (at, said) = wrong(text);
        assert_eq!(at, place, "{text}: {said}");
        assert!(said.contains(message), "{text}: {said}");
    }
    let text = "ä ram<8GX";
    let error = Query::parse(text).unwrap_err();
    let shown = error.pointed(text);
    let marked: Vec<&str> = shown.lines().collect();
    assert_eq!(marked[1..], ["  ä ram<8GX", "        ^^^"]);
}

#[test]
fn what_is_too_long_or_too_deep_is_refused() {
    assert!(wrong(&"a ".repeat(LONGEST)).1.contains("at most"));
    assert!(wrong(&"(".repeat(500)).1.contains("within each other"));
    assert!(wrong(&"not ".repeat(400)).1.contains("within each other"));
}

#[test]
fn only_parameters_hold_what_was_typed() {
    let evil = "name=\"x' OR 1=1 --\" \"'; DROP TABLE machine; --\"";
    let compiled = Query::parse(evil).unwrap().compile(Timestamp::UNIX_EPOCH);
    let harmless = Query::parse("name=\"a\" \"b\"").unwrap();
    assert_eq!(
        compiled.condition,
        harmless.compile(Timestamp::UNIX_EPOCH).condition
    );
    assert_eq!(
        compiled.parameters[1],
        Parameter::Text("'; drop table machine; --".into())
    );
}

/// Searches as people write them, and worse.
pub(crate) fn searches() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        "[a-z0-9%_'.:-]{1,8}",
        "\"[^\"\\\\]{0,8}\"",
        Just("8GiB".to_owned()),
        Just("30d".to_owned()),
        Just("2026-03-01".to_owned()),
        Just("ok".to_owned()),
        Just("7".to_owned()),
    ];
    let name = proptest::sample::select(FIELDS).prop_map(|field| field.name);
    let op = proptest::sample::select(&["=", "!=", "<", "<=", ">", ">=", "~"][..]);
    let leaf = prop_oneof![
        4 => (name, op, value).prop_map(|(name, op, value)| format!("{name}{op}{value}")),
        1 => "[a-z%_']{4,8}",
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} or {b})")),
            inner.prop_map(|a| format!("not {a}")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_a_search_or_an_error_within_it(text in "\\PC{0,60}") {
        if let Err(error) = Query::parse(&text) {
            prop_assert!(text.get(error.place.clone()).is_some());
            error.pointed(&text);
        }
    }

    #[test]
    fn symbols_in_any_order_are_read_without_a_panic(text in "[ ()\"\\\\=!<>~a-c0-9or]{0,40}") {
        if let Err(error) = Query::parse(&text) {
            prop_assert!(text.get(error.place).is_some());
        }
    }

    #[test]
    fn what_is_written_down_is_read_the_same(text in searches()) {
        if let Ok(query) = Query::parse(&text) {
            prop_assert_eq!(&Query::parse(&query.canonical()), &Ok(query.clone()), "{}", text);
        }
    }

    #[test]
    fn the_sql_is_made_of_fixed_parts(text in searches()) {
        if let Ok(query) = Query::parse(&text) {
            let compiled = query.compile(Timestamp::UNIX_EPOCH);
            let fixed = compiled.condition.chars().all(|c| c.is_ascii_alphanumeric() || " .,()<>=?_".contains(c));
            prop_assert!(fixed, "{}", compiled.condition);
        }
    }
}
