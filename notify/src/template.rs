//! Templates of mails and webhooks: minijinja, with what a notice says as names. One that is wrong is told when the file is
//! read, not when something has failed in the night.

use crate::notice::Notice;
use jiff::Timestamp;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};
use std::fmt;

pub const SUBJECT: &str = "Pitstop: {{ summary }}";
pub const BODY: &str = "\
{{ summary }}

machine   {{ machine }}{% if address and address != machine %} ({{ address }}){% endif %}
action    {{ action }}
when      {{ time }}
{%- if run %}
run       {{ run }}
{%- endif %}
{%- if job %}
job       {{ job }}
{%- endif %}
{%- if seconds %}
took      {{ seconds }} s
{%- endif %}

{{ server }}/
";

/// A text with holes.
pub struct Template(Environment<'static>);

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}

/// Its only name: without an ending nothing in it is escaped.
const NAME: &str = "template";

impl Template {
    /// # Errors
    /// It makes no sense, or uses a name that there is not; with its line.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        // A misspelled name is an error rather than nothing.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("tojson", |text: &str| json(text));
        environment
            .add_template_owned(NAME, text.to_owned())
            .map_err(|error| told(&error))?;
        let template = Self(environment);
        let id = pitstop_protocol::id::Id::new(Timestamp::UNIX_EPOCH, 0);
        template.render(&Notice::test(id, "https://srv:8443".into()))?;
        Ok(template)
    }

    /// # Errors
    /// With the line of the template.
    pub fn render(&self, notice: &Notice) -> Result<String, String> {
        let id = |id: &Option<pitstop_protocol::id::Id>| {
            id.as_ref().map_or_else(String::new, ToString::to_string)
        };
        let names = context! {
            id => notice.id.to_string(),
            event => notice.event.to_string(),
            time => notice.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            summary => notice.summary(),
            machine => notice.machine.clone(),
            address => notice.address.clone(),
            mac => notice.mac.clone(),
            action => notice.action.clone(),
            job => id(&notice.job),
            run => id(&notice.run),
            reason => notice.reason.clone(),
            bytes => notice.bytes,
            seconds => notice.elapsed_ms / 1000,
            server => notice.server.clone(),
        };
        let template = self.0.get_template(NAME).map_err(|error| told(&error))?;
        template.render(names).map_err(|error| told(&error))
    }
}

fn json(text: &str) -> Result<String, minijinja::Error> {
    serde_json::to_string(text)
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))
}

fn told(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!("line {line} of it: "));
    let detail = error.detail().map(|detail| format!(": {detail}"));
    format!(
        "{}{}{}",
        line.unwrap_or_default(),
        error.kind(),
        detail.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::Event;
    use proptest::prelude::*;

    fn failed(reason: &str) -> Notice {
        let id = "20261129-013000-a1b2c3".parse().unwrap();
        Notice {
            event: Event::Failed,
            reason: reason.into(),
            elapsed_ms: 61_000,
            run: Some("20261129-012900-a1b2c3".parse().unwrap()),
            ..Notice::test(id, "https://srv:8443".into())
        }
    }

    #[test]
    fn the_texts_that_are_built_in_say_what_happened() {
        let notice = failed("no disk fits");
        let subject = Template::new(SUBJECT).unwrap().render(&notice).unwrap();
        assert_eq!(subject, "Pitstop: lab3-01 failed at backup: no disk fits");
        let body = Template::new(BODY).unwrap().render(&notice).unwrap();
        for wanted in [
            "machine   lab3-01 (192.0.2.1)\n",
            "\nrun       20261129-012900-a1b2c3\ntook      61 s\n",
            "\nhttps://srv:8443/",
        ] {
            assert!(body.contains(wanted), "{body}");
        }
        assert!(!body.contains("job "), "{body}");
    }

    #[test]
    fn a_template_that_is_wrong_is_told_with_its_line() {
        for (text, line, why) in [
            ("a\n{{ machin }}", "line 2", "undefined"),
            ("{% if x %}", "line 1", "unexpected end"),
            ("a\nb\n{{ machine | shout }}", "line 3", "unknown filter"),
        ] {
            let error = Template::new(text).unwrap_err();
            assert!(error.contains(line) && error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_machine_says_stays_a_json_string(reason in ".{0,60}") {
            let template = Template::new("{\"text\": {{ summary | tojson }}}").unwrap();
            let notice = failed(&reason);
            let body = template.render(&notice).unwrap();
            let read: serde_json::Value = serde_json::from_str(&body).unwrap();
            let summary = notice.summary();
            prop_assert_eq!(read["text"].as_str(), Some(summary.as_str()));
        }
    }
}
