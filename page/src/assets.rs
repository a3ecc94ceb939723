//! Style, script and icon, part of the program. Their names change with their content, so that a browser may keep them for
//! ever.

/// A file that pages name.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    name: &'static str,
    ending: &'static str,
    pub media_type: &'static str,
    pub text: &'static str,
}

pub static STYLE: Asset = Asset {
    name: "page",
    ending: "css",
    media_type: "text/css; charset=utf-8",
    text: include_str!("../static/page.css"),
};

pub static SCRIPT: Asset = Asset {
    name: "page",
    ending: "js",
    media_type: "text/javascript; charset=utf-8",
    text: include_str!("../static/page.js"),
};

pub static ICON: Asset = Asset {
    name: "icon",
    ending: "svg",
    media_type: "image/svg+xml",
    text: include_str!("../static/icon.svg"),
};

/// Where they are below the server's root, without a slash around.
pub const FOLDER: &str = "static";

impl Asset {
    /// The name in its folder: `page.0123456789abcdef.css`.
    pub fn file(&self) -> String {
        format!("{}.{:016x}.{}", self.name, digest(self.text), self.ending)
    }

    /// The path in links.
    pub fn path(&self) -> String {
        format!("/{FOLDER}/{}", self.file())
    }
}

/// The asset of this name; of another version there is none.
pub fn find(file: &str) -> Option<&'static Asset> {
    [&STYLE, &SCRIPT, &ICON]
        .into_iter()
        .find(|asset| asset.file() == file)
}

/// FNV-1a. It tells versions apart, and proves nothing.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_is_found_by_the_name_of_its_version_alone() {
        for asset in [&STYLE, &SCRIPT, &ICON] {
            let file = asset.file();
            assert_eq!(find(&file).map(|found| found.text), Some(asset.text));
        }
        assert!(find("page.0000000000000000.css").is_none());
        assert!(find("page.css").is_none());
        assert_ne!(digest("a"), digest("b"));
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        for asset in [&STYLE, &SCRIPT] {
            assert!(!asset.text.contains("://"), "{}", asset.file());
            assert!(!asset.text.contains("@import"), "{}", asset.file());
        }
    }
}
