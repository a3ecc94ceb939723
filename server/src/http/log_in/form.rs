//! The markup of the form.

use super::access::LOG_IN;
use pitstop_page::login;

pub fn html(user: &str, next: &str, problem: &str) -> String {
    login::document(LOG_IN, user, next, problem).into_string()
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
