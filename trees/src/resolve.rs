//! Finding a path in a tree as its own system would: its symlinks are followed, and none leads out.

use crate::path::{PathError, TreePath};

/// As many symlinks as Linux follows (`path_resolution(7)`).
const LINKS: usize = 40;

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("its symlinks lead in circles")]
    Circle,
    #[error(transparent)]
    Path(#[from] PathError),
}

/// The place that `path` means, where `link` tells the target of the symlinks of the tree. `..` at the root is the root. The
/// last component is followed too if `last` says so.
///
/// # Errors
/// When symlinks lead in circles, or to what is no path.
pub fn resolve<Target: AsRef<[u8]>>(
    path: &[u8],
    last: bool,
    link: impl Fn(&TreePath) -> Option<Target>,
) -> Result<TreePath, Lost> {
    let mut rest: Vec<Vec<u8>> = names(path);
    let mut at = TreePath::root();
    let mut followed = 0;
    while let Some(name) = rest.pop() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                at = TreePath::parse(at.folder())?;
                continue;
            }
            _ => {}
        }
        let next = at.join(&name)?;
        let is_last = rest.iter().all(|name| name.is_empty() || name == b".");
        match link(&next) {
            Some(target) if last || !is_last => {
                let target = target.as_ref();
                followed += 1;
                if followed > LINKS {
                    return Err(Lost::Circle);
                }
                if target.starts_with(b"/") {
                    at = TreePath::root();
                }
                rest.extend(names(target));
            }
            _ => at = next,
        }
    }
    Ok(at)
}

/// Components, the first one at the end.
fn names(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec);
    names.collect::<Vec<_>>().into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn symlinks_are_those_of_the_tree() {
        let links: HashMap<&str, &str> = [
            ("/lib", "usr/lib"),
            ("/etc/os-release", "../usr/lib/os-release"),
            ("/abs", "/usr/../lib"),
            ("/out", "../../../etc"),
            ("/circle", "circle"),
        ]
        .into();
        let find = |path: &str, last| {
            resolve(path.as_bytes(), last, |path| {
                links
                    .get(path.to_string().as_str())
                    .map(|target| target.as_bytes())
            })
            .map(|path| path.to_string())
        };
        for (path, last, found) in [
            ("/lib/x", true, "/usr/lib/x"),
            ("etc/os-release", true, "/usr/lib/os-release"),
            ("etc/os-release", false, "/etc/os-release"),
            ("abs/y", true, "/usr/lib/y"),
            ("out/passwd", true, "/etc/passwd"),
            ("../../a", true, "/a"),
        ] {
            assert_eq!(find(path, last).unwrap(), found, "{path}");
        }
        assert_eq!(find("circle/x", true), Err(Lost::Circle));
    }
}
