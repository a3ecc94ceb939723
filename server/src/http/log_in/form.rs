//! The markup of the form.

use super::access::LOG_IN;
use crate::listing::escape;

pub fn html(user: &str, next: &str, problem: &str) -> String {
    let problem = match problem {
        "" => String::new(),
        text => format!("<p role=alert><strong>{}</strong></p>\n", escape(text)),
    };
    let (user, next) = (escape(user), escape(next));
    format!(
        "<!DOCTYPE html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta name=color-scheme content=\"light dark\">\n<title>Log in: Pitstop</title>\n\
         <main>\n<h1>Pitstop</h1>\n{problem}<form method=post action=\"{LOG_IN}\">\n\
         <p><label>User <input name=user value=\"{user}\" autocomplete=username autocapitalize=none required autofocus></label></p>\n\
         <p><label>Password <input name=password type=password autocomplete=current-password required></label></p>\n\
         <input type=hidden name=next value=\"{next}\">\n<p><button>Log in</button></p>\n</form>\n</main>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::html;

    #[test]
    fn what_was_typed_is_no_markup() {
        let page = html("\"><script>", "/a\"b", "<b>");
        assert!(
            !page.contains("<script>") && !page.contains("<b>"),
            "{page}"
        );
        assert!(!page.contains("/a\"b"), "{page}");
    }
}
